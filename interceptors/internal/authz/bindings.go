package authz

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"go.yaml.in/yaml/v3"

	rolecallv1 "example.com/rolecall/gen/rolecall/v1"
)

// MaxBindings is the size of the largest bindings file that is read, in bytes.
const MaxBindings = 4 << 20

// Bindings is a valid roles.yaml: who holds which role, and who is refused whatever he holds. It never changes.
type Bindings struct {
	TrustDomain spiffeid.TrustDomain // of the servers that may use it
	Version     string               // the first 12 hexadecimal digits of the SHA-256 of the file

	Bindings []Binding // in the order of the file
	Denials  []Denial  // in the order of the file

	denied denied
}

// Binding says that its members hold a role.
type Binding struct {
	Role    string
	Members []Member
	Reason  string // may be empty
	Line    int    // in the file, from 1
}

// ParseBindings reads a roles.yaml, schema rolecall.v1.Bindings. It is strict: an unknown or repeated key, a role's name
// or a SPIFFE ID that is not one, a pattern other than a last `/*` in the own trust domain, and every feature of YAML
// beyond maps, lists and text are errors that name line:column. It reports the first mistakes of a file together.
func ParseBindings(data []byte) (*Bindings, error) {
	if len(data) > MaxBindings {
		return nil, fmt.Errorf("parse bindings: %d bytes, at most %d are read", len(data), MaxBindings)
	}
	root, err := parseYAML(data)
	if err != nil {
		return nil, fmt.Errorf("parse bindings: %w", err)
	}
	r := &reader{}
	message := &rolecallv1.Bindings{}
	r.message(root, message.ProtoReflect())
	if err := r.err(); err != nil {
		return nil, fmt.Errorf("parse bindings: %w", err)
	}
	sum := sha256.Sum256(data)
	b := &Bindings{Version: hex.EncodeToString(sum[:])[:12]}
	b.fill(r, root, message)
	if err := r.err(); err != nil {
		return nil, fmt.Errorf("parse bindings: %w", err)
	}
	b.denied = indexDenials(b.Denials)
	return b, nil
}

// fill takes over what was read and reports what has the right form and a wrong meaning.
func (b *Bindings) fill(r *reader, root *yaml.Node, message *rolecallv1.Bindings) {
	td, err := spiffeid.TrustDomainFromString(message.GetTrustDomain())
	switch {
	case message.GetTrustDomain() == "":
		r.fail(root, "trustDomain is missing")
		return
	case err != nil || td.Name() != message.GetTrustDomain() || len(td.Name()) > maxTrustDomain:
		r.fail(at(root, "trustDomain"), "%q is not a trust domain's name, as in mesh.local: lower-case letters, digits, dots, dashes and underscores, %d at most",
			message.GetTrustDomain(), maxTrustDomain)
		return
	}
	b.TrustDomain = td
	nodes := at(root, "bindings")
	for i, m := range message.GetBindings() {
		b.Bindings = append(b.Bindings, b.binding(r, at(nodes, i), m))
	}
	nodes = at(root, "denied")
	for i, m := range message.GetDenied() {
		b.Denials = append(b.Denials, readDenial(r, at(nodes, i), m))
	}
}

// binding takes over one binding.
func (b *Bindings) binding(r *reader, n *yaml.Node, m *rolecallv1.Binding) Binding {
	if m.GetRole() == "" {
		r.fail(n, "role is missing")
	} else if err := checkRoleName(m.GetRole()); err != nil {
		r.fail(at(n, "role"), "%v", err)
	}
	members := at(n, "members")
	if members == n {
		r.fail(n, "members is missing: write members: [] for a role that nobody holds")
	}
	binding := Binding{Role: m.GetRole(), Reason: m.GetReason(), Line: n.Line}
	for i, text := range m.GetMembers() {
		member, err := parseMember(text, b.TrustDomain)
		if err != nil {
			r.fail(at(members, i), "%v", err)
		}
		member.Line = at(members, i).Line
		binding.Members = append(binding.Members, member)
	}
	return binding
}
