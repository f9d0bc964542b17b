package demo

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"go.yaml.in/yaml/v3"

	"example.com/rolecall/interceptors"
	"example.com/rolecall/internal/catalog"
	"example.com/rolecall/internal/mesh"
)

// marker is the first line of a roles.yaml that the demo wrote, so that a later run knows one that was never given back: a
// program that is killed cannot clean up.
const marker = "# rolecall demo has taken a role away here for a moment; what stood here before is in the file beside it.\n"

// kept names the file that has what stood in roles.yaml, while it is edited.
func kept(path string) string { return path + ".before-demo" }

// rolesFile is roles.yaml as it was found.
type rolesFile struct {
	path     string
	mode     fs.FileMode
	original []byte
	edited   []byte // nil while the file is as it was
}

func readRoles(path string) (*rolesFile, error) {
	// A link stays one: what it leads to is edited.
	path, err := filepath.EvalSymlinks(path)
	if err != nil {
		return nil, fmt.Errorf("read bindings: %w", err)
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("read bindings: %w", err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read bindings: %w", err)
	}
	return &rolesFile{path: path, mode: info.Mode().Perm(), original: data}, nil
}

// without returns the file without the bindings that let a member read the ledger.
func (f *rolesFile) without(member spiffeid.ID, policy *interceptors.Policy) ([]byte, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(f.original, &doc); err != nil {
		return nil, fmt.Errorf("%s: %w", f.path, err)
	}
	gives := givers(policy, readerRole)
	wildcard := strings.TrimSuffix(member.String(), "/"+filepath.Base(member.Path())) + "/*"
	for _, binding := range child(doc.Content[0], "bindings").Content {
		if members := child(binding, "members"); slices.Contains(gives, child(binding, "role").Value) {
			members.Content = slices.DeleteFunc(members.Content, func(n *yaml.Node) bool {
				return n.Value == member.String() || n.Value == wildcard
			})
		}
	}
	body, err := yaml.Marshal(&doc)
	if err != nil {
		return nil, fmt.Errorf("edit %s: %w", f.path, err)
	}
	edited := append([]byte(marker), body...)
	after, err := interceptors.ReadPolicy(edited, catalog.Descriptors()...)
	if err != nil {
		return nil, fmt.Errorf("edit %s: %w", f.path, err)
	}
	if after.MayCall(member, getBalance) {
		return nil, fmt.Errorf("edit %s: %s could not be taken away from %s; that is a defect of the demo", f.path, readerRole, member)
	}
	return edited, nil
}

// givers returns the role and those that include it.
func givers(policy *interceptors.Policy, role string) []string {
	found := []string{role}
	for range policy.Roles { // each round finds one more level
		for _, r := range policy.Roles {
			gives := slices.ContainsFunc(r.Includes, func(included string) bool { return slices.Contains(found, included) })
			if gives && !slices.Contains(found, r.Name) {
				found = append(found, r.Name)
			}
		}
	}
	return found
}

// child returns the value of a key, an empty node if it is not there.
func child(n *yaml.Node, key string) *yaml.Node {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i+1]
		}
	}
	return &yaml.Node{}
}

// replace writes what was edited, in one step, once what stood there is safe.
func (f *rolesFile) replace(edited []byte) error {
	if err := mesh.WriteFile(kept(f.path), f.original, f.mode); err != nil {
		return err
	}
	f.edited = edited
	return mesh.WriteFile(f.path, edited, f.mode)
}

// restore gives the file back byte for byte. If somebody else has changed it meanwhile, it stays as it is and the error says
// so. Restoring twice is no error.
func (f *rolesFile) restore() error {
	if f.edited == nil {
		return nil
	}
	now, err := os.ReadFile(f.path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("give the bindings back: %w; what stood there is in %s", err, kept(f.path))
	}
	switch {
	case err == nil && bytes.Equal(now, f.original): // the edit itself failed
	case err == nil && !bytes.Equal(now, f.edited):
		f.edited = nil
		return fmt.Errorf("%s was changed while the demo had taken a role away, and stays as it is now; what stood there is in %s", f.path, kept(f.path))
	default:
		if err := mesh.WriteFile(f.path, f.original, f.mode); err != nil {
			return fmt.Errorf("give the bindings back: %w; what stood there is in %s", err, kept(f.path))
		}
	}
	f.edited = nil
	return os.Remove(kept(f.path))
}

// recoverRoles gives back what a demo that was killed has left.
func recoverRoles(path string) error {
	f, err := readRoles(path)
	if err != nil || !bytes.HasPrefix(f.original, []byte(marker)) {
		return err
	}
	before, err := os.ReadFile(kept(f.path))
	if err != nil {
		return fmt.Errorf("an earlier demo was killed and left %s without a role, and what stood there cannot be read: %w", f.path, err)
	}
	f.original, f.edited = before, f.original
	return f.restore()
}
