package interceptors

import (
	"fmt"
	"maps"
	"slices"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"google.golang.org/protobuf/reflect/protoreflect"

	"example.com/rolecall/interceptors/internal/authz"
)

// Policy is what a server would decide, to be looked at without one: for a matrix of who may call what, for a check
// before roles.yaml is rolled out, and for tests. It never changes and is safe for concurrent use. It decides nothing
// itself: a Guard compiles and binds its own.
type Policy struct {
	TrustDomain string
	Version     string // of the bindings, as in audit records
	Methods     []PolicyMethod
	Roles       []PolicyRole
	Members     []PolicyMember
	Findings    []PolicyFinding

	table    *authz.Table
	bindings *authz.Bindings
	bound    *authz.Policy
}

// PolicyMethod is a method and who may call it. Exactly one of Roles and AnyWorkload is set.
type PolicyMethod struct {
	Method      string   // "/ledger.v1.LedgerService/Transfer"
	Roles       []string // the workload must hold all of them; sorted
	AnyWorkload bool     // every workload of the own trust domain may call
	UserRoles   []string // the user must hold all of them; sorted
	User        bool     // on behalf of a user only
	Proof       bool     // with a signed proof only
	ExactlyOnce bool
	Callers     []string // the members that hold Roles and are not denied, sorted; empty if AnyWorkload
}

// PolicyRole is a role that one of the services defines.
type PolicyRole struct {
	Name        string
	Description string
	Includes    []string // directly; sorted
	Holders     []string // members that hold it, by a binding or by another role; sorted
}

// PolicyMember is a member of a binding: a SPIFFE ID, or a pattern that ends in "/*".
type PolicyMember struct {
	Member  string
	Roles   []string // held, with what they include and what patterns give to an ID; sorted; unknown roles are left out
	Methods []string // that it may call by its roles, without those for any workload; sorted
	Denied  string   // the reason why the ID is denied everywhere, or empty; denied keys are not looked at
}

// PolicyFinding is something in a valid policy that its author may not have meant.
type PolicyFinding struct {
	// Kind is one of role-unknown (a binding for a role that no service defines), role-unheld (a method asks for a role
	// that nobody holds), method-unreachable (no member holds all roles that a method asks for), member-foreign (a member of
	// another trust domain), member-duplicate (a member has the role already) and member-denied (a member that is denied).
	Kind    string
	Line    int // in the bindings, from 1; 0 for a finding about a method
	Message string
}

// ReadPolicy reads a roles.yaml for the given services, which are all that a mesh runs or as many as are of interest. It
// fails where a server of these services, or the reading of the bindings, would.
func ReadPolicy(rolesYAML []byte, services ...protoreflect.ServiceDescriptor) (*Policy, error) {
	table, err := authz.CompileDescriptors(services)
	if err != nil {
		return nil, fmt.Errorf("read policy: %w", err)
	}
	bindings, err := authz.ParseBindings(rolesYAML)
	if err != nil {
		return nil, fmt.Errorf("read policy: %w", err)
	}
	p := &Policy{
		TrustDomain: bindings.TrustDomain.Name(),
		Version:     bindings.Version,
		table:       table,
		bindings:    bindings,
		bound:       table.Bind(bindings),
	}
	p.describe()
	return p, nil
}

// MayCall reports whether a workload may call a method, by its full name, with all its roles and with a key that is not
// denied. Conditions on a user or a proof come on top.
func (p *Policy) MayCall(id spiffeid.ID, method string) bool {
	m := p.table.Method(method)
	if _, denied := p.bindings.DeniedID(id); m == nil || denied || id.IsZero() {
		return false
	}
	if m.AnyWorkload {
		return id.MemberOf(p.bindings.TrustDomain)
	}
	return p.bound.Held(id).ContainsAll(m.Need)
}

// describe fills the exported fields.
func (p *Policy) describe() {
	held := map[string]authz.Set{}
	described := map[string]*PolicyMember{}
	for _, binding := range p.bindings.Bindings {
		for _, m := range binding.Members {
			held[m.Text] = p.bound.HeldBy(m)
			described[m.Text] = &PolicyMember{Member: m.Text, Roles: p.table.Names(held[m.Text])}
			if id, one := m.ID(); one {
				described[m.Text].Denied, _ = p.bindings.DeniedID(id)
			}
		}
	}
	members := slices.Sorted(maps.Keys(held))
	for _, m := range p.table.Methods() {
		method := PolicyMethod{
			Method: m.Full, Roles: m.Roles, AnyWorkload: m.AnyWorkload,
			UserRoles: m.Conditions.UserRoles, User: m.Conditions.User, Proof: m.Conditions.Proof, ExactlyOnce: m.Conditions.ExactlyOnce,
		}
		for _, member := range members {
			if d := described[member]; !m.AnyWorkload && d.Denied == "" && held[member].ContainsAll(m.Need) {
				method.Callers = append(method.Callers, member)
				d.Methods = append(d.Methods, m.Full)
			}
		}
		p.Methods = append(p.Methods, method)
	}
	for i, role := range p.table.Roles() {
		r := PolicyRole{Name: role.Name, Description: role.Description, Includes: role.Includes}
		for _, member := range members {
			if held[member].Has(i) {
				r.Holders = append(r.Holders, member)
			}
		}
		p.Roles = append(p.Roles, r)
	}
	for _, member := range members {
		p.Members = append(p.Members, *described[member])
	}
	for _, f := range authz.Find(p.table, p.bindings) {
		p.Findings = append(p.Findings, PolicyFinding(f))
	}
}
