package authz

import (
	"maps"
	"slices"
)

// Rule is what an annotation would have said, for a method that cannot carry one: the calling workload must hold all of
// the Roles, or may be any workload of the own trust domain. Exactly one of the two is set.
type Rule struct {
	Roles       []string
	AnyWorkload bool
}

// Conditions are what a method asks for beside the workload's own rule. Each is enforced by a feature; Compile refuses
// one whose feature the guard was not given.
type Conditions struct {
	UserRoles   []string // roles that the user must hold, all of them, sorted
	User        bool     // the call is made on behalf of a user; set with UserRoles too
	Proof       bool     // the request carries a signed proof
	ExactlyOnce bool     // the request takes effect once
}

// Has reports whether the annotation with a name is among the conditions.
func (c Conditions) Has(annotation string) bool {
	switch annotation {
	case "requires_user_role":
		return len(c.UserRoles) > 0
	case "requires_user":
		return c.User
	case "requires_proof":
		return c.Proof
	case "exactly_once":
		return c.ExactlyOnce
	}
	return false
}

// Method is the compiled policy of one registered method.
type Method struct {
	Full         string   // as it arrives on the wire: "/ledger.v1.LedgerService/Transfer"
	Need         Set      // the roles that a caller must hold, all of them; empty exactly when AnyWorkload
	Roles        []string // the names of Need, sorted
	AnyWorkload  bool     // any workload of the own trust domain may call
	Annotated    bool     // the rule is an annotation's, and neither built in nor an Allow's
	UserNeed     Set      // the roles of Conditions.UserRoles
	ClientStream bool
	ServerStream bool
	Conditions   Conditions
}

// Table is the compiled policy of a server: its methods, and the roles that they and the services' definitions name.
type Table struct {
	methods map[string]*Method
	ordered []*Method
	names   []string       // sorted
	index   map[string]int // into names and closure
	closure []Set          // for each role: itself and what it includes
	roles   []Role         // for each role: its definition
}

// Method returns the policy of a method by its exact name on the wire, or nil if it has none and must be refused.
func (t *Table) Method(full string) *Method { return t.methods[full] }

// Methods returns all methods in the order of their names. The caller must not change what it gets.
func (t *Table) Methods() []*Method { return t.ordered }

// RoleIndex returns the index of a role in the sets of this table.
func (t *Table) RoleIndex(name string) (int, bool) {
	i, ok := t.index[name]
	return i, ok
}

// RoleNames returns the names of all roles, sorted; the position of a name is its index. The caller must not change
// what it gets.
func (t *Table) RoleNames() []string { return t.names }

// Roles returns the definitions of all roles in the order of RoleNames. The caller must not change what it gets.
func (t *Table) Roles() []Role { return t.roles }

// Names returns the names of the roles in a set, sorted; never nil.
func (t *Table) Names(s Set) []string {
	names := []string{}
	s.each(func(i int) {
		if i < len(t.names) {
			names = append(names, t.names[i])
		}
	})
	return names
}

// Closure returns the named roles and all that they include. A name that the table does not know gives nothing, and so
// does a second one of the same name: a caller can narrow with what it sends, never gain.
func (t *Table) Closure(names []string) Set {
	set := newSet(len(t.names))
	for _, name := range names {
		if i, ok := t.index[name]; ok {
			set.merge(t.closure[i])
		}
	}
	return set
}

// table makes the table of what was compiled without a problem.
func (c *compiler) table() *Table {
	for name := range c.coined {
		c.roles.roles[name] = Role{Name: name, Description: "Defined by interceptors.Allow."}
	}
	names := c.roles.names()
	t := &Table{
		methods: make(map[string]*Method, len(c.methods)),
		names:   names,
		index:   make(map[string]int, len(names)),
	}
	for i, name := range names {
		t.index[name] = i
		t.roles = append(t.roles, c.roles.roles[name])
	}
	for _, name := range names {
		set := newSet(len(names))
		for reached := range c.roles.reach(name) {
			set.add(t.index[reached])
		}
		t.closure = append(t.closure, set)
	}
	for _, full := range slices.Sorted(maps.Keys(c.methods)) {
		m := c.methods[full].method
		m.Need = newSet(len(names))
		for _, name := range m.Roles {
			m.Need.add(t.index[name])
		}
		m.UserNeed = newSet(len(names))
		for _, name := range m.Conditions.UserRoles {
			m.UserNeed.add(t.index[name])
		}
		t.methods[full] = &m
		t.ordered = append(t.ordered, &m)
	}
	return t
}
