package authz

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// definitions are the roles of some owners, collected from every service of theirs that is linked into this program,
// registered or not: a role may be owned by a service that another process runs.
type definitions struct {
	roles  map[string]Role
	by     map[string]string // the service that defined a role, for messages
	linked map[string]bool   // owners of whom at least one service is linked
	failed map[string]bool   // owners of whom a definition could not be used
}

// defineRoles reads the definitions of the given owners and hands every problem to report.
func defineRoles(services []protoreflect.ServiceDescriptor, owners map[string]bool, report func(Problem)) *definitions {
	d := &definitions{
		roles:  map[string]Role{},
		by:     map[string]string{},
		linked: map[string]bool{},
		failed: map[string]bool{},
	}
	for _, role := range builtinRoles {
		d.roles[role.Name], d.by[role.Name] = role, "rolecall itself"
	}
	for _, s := range services {
		owner := ownerOfPackage(s.ParentFile().Package())
		if !owners[owner] {
			continue
		}
		d.linked[owner] = true
		roles, problems := readRoles(s)
		for _, err := range problems {
			d.failed[owner] = true
			report(Problem{Subject: string(s.FullName()), Text: err.Error()})
		}
		for _, role := range roles {
			if first, twice := d.roles[role.Name]; twice && !sameMeaning(first, role) {
				d.failed[owner] = true
				report(Problem{Subject: string(s.FullName()), Text: fmt.Sprintf(
					"role %q was defined by %s with another meaning: make both definitions the same, or remove one", role.Name, d.by[role.Name])})
				continue
			}
			d.roles[role.Name], d.by[role.Name] = role, string(s.FullName())
		}
	}
	for _, name := range d.names() {
		for _, included := range d.roles[name].Includes {
			if _, ok := d.roles[included]; !ok && !d.failed[ownerOfRole(included)] {
				report(Problem{Subject: d.by[name], Text: fmt.Sprintf("role %q includes %q, which is not defined", name, included)})
			}
		}
		if cycle := d.cycle(name); cycle != nil {
			report(Problem{Subject: d.by[name], Text: "roles include each other in a circle: " + strings.Join(cycle, " includes ")})
		}
	}
	return d
}

// sameMeaning reports whether two definitions of one name agree.
func sameMeaning(a, b Role) bool {
	return a.Description == b.Description && slices.Equal(a.Includes, b.Includes)
}

// names returns the names of all roles, sorted.
func (d *definitions) names() []string { return slices.Sorted(maps.Keys(d.roles)) }

// of returns the names of an owner's roles, sorted.
func (d *definitions) of(owner string) []string {
	return slices.DeleteFunc(d.names(), func(name string) bool { return ownerOfRole(name) != owner })
}

// reach returns a role and everything that it includes, directly or not. It ends even if roles include each other.
func (d *definitions) reach(name string) map[string]bool {
	seen := map[string]bool{}
	for next := []string{name}; len(next) > 0; {
		role := next[len(next)-1]
		next = next[:len(next)-1]
		if _, ok := d.roles[role]; ok && !seen[role] {
			seen[role] = true
			next = append(next, d.roles[role].Includes...)
		}
	}
	return seen
}

// cycle returns the names along a circle of includes in which name is the first of all in order, or nil: so each circle
// is told once.
func (d *definitions) cycle(name string) []string {
	parent := map[string]string{}
	for next := []string{name}; len(next) > 0; {
		role := next[0]
		next = next[1:]
		for _, included := range d.roles[role].Includes {
			if included == name {
				path := []string{name}
				for ; role != name; role = parent[role] {
					path = append(path, role)
				}
				path = append(path, name)
				slices.Reverse(path)
				return path
			}
			if _, seen := parent[included]; !seen && included > name {
				parent[included] = role
				next = append(next, included)
			}
		}
	}
	return nil
}

// suggest returns the role of an owner that the fewest hold: one that no other includes. Whoever pastes it has closed
// the method first and can open it later.
func (d *definitions) suggest(owner string) (string, bool) {
	included := map[string]bool{}
	names := d.of(owner)
	for _, name := range names {
		for _, other := range d.roles[name].Includes {
			included[other] = true
		}
	}
	best, most := "", 0
	for _, name := range names {
		if n := len(d.reach(name)); !included[name] && n > most {
			best, most = name, n
		}
	}
	return best, best != ""
}
