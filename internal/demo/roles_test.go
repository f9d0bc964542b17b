package demo

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"example.com/rolecall/interceptors"
	"example.com/rolecall/internal/catalog"
)

var (
	alice = spiffeid.RequireFromString("spiffe://mesh.local/operator/alice")
	bob   = spiffeid.RequireFromString("spiffe://mesh.local/operator/bob")
)

func TestRoleIsTakenAwayHoweverItIsHeld(t *testing.T) {
	t.Parallel()
	const head = "trustDomain: mesh.local\nbindings:\n"
	const alices = "  - role: ledger.admin # all of it\n    members: [spiffe://mesh.local/operator/alice]\n"
	for _, test := range []struct{ name, roles string }{
		{"by a binding of its own", head + alices + "  - role: ledger.reader\n    members: [spiffe://mesh.local/operator/bob]\n"},
		{"among others", head + "  - role: ledger.admin\n    members: [spiffe://mesh.local/operator/bob, spiffe://mesh.local/operator/alice]\n"},
		{"by a role that includes it", head + alices + "  - {role: ledger.writer, members: [spiffe://mesh.local/operator/bob], reason: why not}\n"},
		{"by a wildcard", head + alices + "  - role: ledger.reader\n    members:\n      - spiffe://mesh.local/operator/*\n"},
		{"in several ways", head + alices + "  - role: ledger.reader\n    members: [\"spiffe://mesh.local/operator/*\", spiffe://mesh.local/operator/bob]\n" +
			"  - role: ledger.admin\n    members: [spiffe://mesh.local/operator/bob]\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			f := &rolesFile{path: "roles.yaml", original: []byte(test.roles)}
			edited, err := f.without(bob, readPolicy(t, f.original))
			if err != nil {
				t.Fatal(err)
			}
			after := readPolicy(t, edited)
			if after.MayCall(bob, getBalance) || !after.MayCall(alice, openAccount) {
				t.Errorf("bob may read: %v, alice may open accounts: %v; want false, true with\n%s",
					after.MayCall(bob, getBalance), after.MayCall(alice, openAccount), edited)
			}
		})
	}
}

func TestRestoreGivesTheFileBackByteForByte(t *testing.T) {
	t.Parallel()
	path, original := writeRoles(t)
	link := filepath.Join(t.TempDir(), "roles.yaml")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	f := takeAway(t, link)
	if err := errors.Join(f.restore(), f.restore()); err != nil {
		t.Fatal(err)
	}
	expectFile(t, path, original)
	if info, err := os.Lstat(link); err != nil || info.Mode().Type() != fs.ModeSymlink {
		t.Errorf("the link to it: %v, %v, want a link", info, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("its mode: %v, %v, want 0640 as before", info, err)
	}
	if _, err := os.Stat(kept(path)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the copy: %v, want none", err)
	}
}

func TestRestoreLeavesTheEditOfSomebodyElseAlone(t *testing.T) {
	t.Parallel()
	path, original := writeRoles(t)
	f := takeAway(t, path)
	theirs := append(bytes.Clone(original), "denied: []\n"...)
	if err := os.WriteFile(path, theirs, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := f.restore(); err == nil {
		t.Error("no error says that the role was not given back")
	}
	expectFile(t, path, theirs)
	expectFile(t, kept(path), original)
}

func TestRecoverGivesBackWhatAKilledDemoHasLeft(t *testing.T) {
	t.Parallel()
	path, original := writeRoles(t)
	if err := recoverRoles(path); err != nil {
		t.Fatal(err)
	}
	expectFile(t, path, original)
	takeAway(t, path)
	if err := recoverRoles(path); err != nil {
		t.Fatal(err)
	}
	expectFile(t, path, original)
}

// writeRoles makes a roles.yaml in which bob may read the ledger.
func writeRoles(t *testing.T) (path string, data []byte) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "bindings.yaml")
	data = []byte("trustDomain:   mesh.local   # spaces that no encoder would write\nbindings:\n- {role: ledger.reader, members: [spiffe://mesh.local/operator/bob]}\n")
	if err := errors.Join(os.WriteFile(path, data, 0o640), os.Chmod(path, 0o640)); err != nil { // the mode whatever the umask
		t.Fatal(err)
	}
	return path, data
}

// takeAway edits roles.yaml as the demo does.
func takeAway(t *testing.T, path string) *rolesFile {
	t.Helper()
	f, err := readRoles(path)
	if err != nil {
		t.Fatal(err)
	}
	edited, err := f.without(bob, readPolicy(t, f.original))
	if err != nil {
		t.Fatal(err)
	}
	if err := f.replace(edited); err != nil {
		t.Fatal(err)
	}
	expectFile(t, path, edited)
	return f
}

func readPolicy(t *testing.T, data []byte) *interceptors.Policy {
	t.Helper()
	policy, err := interceptors.ReadPolicy(data, catalog.Descriptors()...)
	if err != nil {
		t.Fatalf("%v\n%s", err, data)
	}
	return policy
}

func expectFile(t *testing.T, path string, want []byte) {
	t.Helper()
	if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s: %v\ngot:\n%s\nwant:\n%s", path, err, got, want)
	}
}
