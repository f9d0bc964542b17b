package authz

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// Finding is something in a valid policy that its author may not have meant.
type Finding struct {
	Kind    string // one of the constants below
	Line    int    // in the bindings file; 0 if it is about a method or a role
	Message string
}

// The kinds of findings.
const (
	RoleUnknown       = "role-unknown"       // a binding for a role that no service defines
	RoleUnheld        = "role-unheld"        // a method asks for a role that nobody holds
	MethodUnreachable = "method-unreachable" // every role has a holder, but no member holds all that the method asks for
	MemberForeign     = "member-foreign"     // a member of another trust domain
	MemberDuplicate   = "member-duplicate"   // a member has the role already
	MemberDenied      = "member-denied"      // a member that is refused everywhere
)

// Find compares a table with the bindings, and returns what looks wrong in the order of the lines.
func Find(t *Table, b *Bindings) []Finding {
	var findings []Finding
	add := func(kind string, line int, format string, args ...any) {
		findings = append(findings, Finding{kind, line, fmt.Sprintf(format, args...)})
	}
	denied := map[spiffeid.ID]int{}
	for _, d := range b.Denials {
		if !d.HasKey {
			denied[d.Member] = d.Line
		}
	}
	lines := map[string]map[string]int{} // role, member: line
	for _, binding := range b.Bindings {
		if _, ok := t.RoleIndex(binding.Role); !ok {
			add(RoleUnknown, binding.Line, "no service defines role %s: it gives nothing", binding.Role)
		}
		if lines[binding.Role] == nil {
			lines[binding.Role] = map[string]int{}
		}
		for _, m := range binding.Members {
			if first, twice := lines[binding.Role][m.Text]; twice {
				add(MemberDuplicate, m.Line, "%s holds %s since line %d", m.Text, binding.Role, first)
				continue
			}
			lines[binding.Role][m.Text] = m.Line
			id, one := m.ID()
			if one && !id.MemberOf(b.TrustDomain) {
				add(MemberForeign, m.Line, "%s of trust domain %s holds %s; methods for any workload stay closed to it", m.Text, id.TrustDomain(), binding.Role)
			}
			if line, ok := denied[id]; one && ok {
				add(MemberDenied, m.Line, "%s is bound to %s, but denied in line %d", m.Text, binding.Role, line)
			}
		}
	}
	for role, members := range lines {
		for text, line := range members {
			id, err := spiffeid.FromString(text)
			if err != nil {
				continue // a wildcard
			}
			if first, ok := members[parent(id)+wildcard]; ok {
				add(MemberDuplicate, line, "%s holds %s by the wildcard in line %d", text, role, first)
			}
		}
	}
	findings = append(findings, unreachable(t, t.Bind(b))...)
	slices.SortFunc(findings, func(x, y Finding) int {
		return cmp.Or(cmp.Compare(x.Line, y.Line), cmp.Compare(x.Kind, y.Kind), cmp.Compare(x.Message, y.Message))
	})
	return findings
}

// unreachable finds methods that no member can call, and the roles that are to blame.
func unreachable(t *Table, p *Policy) []Finding {
	var findings []Finding
	held := newSet(len(t.names))
	for _, sets := range []map[string]Set{p.exact, p.wildcard} {
		for _, set := range sets {
			held.merge(set)
		}
	}
	asked := map[string][]string{}
	for _, m := range t.ordered {
		if m.AnyWorkload || p.somebody(m.Need) {
			continue
		}
		if held.ContainsAll(m.Need) {
			findings = append(findings, Finding{MethodUnreachable, 0, fmt.Sprintf("%s: no member holds all of %s", m.Full, strings.Join(m.Roles, ", "))})
			continue
		}
		for _, role := range m.Roles {
			if i := t.index[role]; !held.Has(i) {
				asked[role] = append(asked[role], m.Full)
			}
		}
	}
	for role, methods := range asked {
		findings = append(findings, Finding{RoleUnheld, 0, fmt.Sprintf("nobody holds %s, which %s asks for", role, strings.Join(methods, ", "))})
	}
	return findings
}

// somebody reports whether one member holds all of need.
func (p *Policy) somebody(need Set) bool {
	for _, sets := range []map[string]Set{p.exact, p.wildcard} {
		for _, set := range sets {
			if set.ContainsAll(need) {
				return true
			}
		}
	}
	return false
}
