package authz

import "github.com/spiffe/go-spiffe/v2/spiffeid"

// Policy says which roles of one Table each SPIFFE ID holds. It is made once for each version of the bindings, so that
// a question costs one map lookup for an ID that is bound by name and two for any other, however many bindings there are.
type Policy struct {
	exact    map[string]Set // by SPIFFE ID; wildcards that match it are already in
	wildcard map[string]Set // by what precedes "/*"
}

// Bind makes the policy of a table and a bindings file. Roles that the table does not know give nothing.
func (t *Table) Bind(b *Bindings) *Policy {
	p := &Policy{exact: map[string]Set{}, wildcard: map[string]Set{}}
	give := func(to map[string]Set, key string, roles Set) {
		if to[key] == nil {
			to[key] = newSet(len(t.names))
		}
		to[key].merge(roles)
	}
	ids := map[string]spiffeid.ID{}
	for _, binding := range b.Bindings {
		role, ok := t.index[binding.Role]
		if !ok {
			continue
		}
		for _, member := range binding.Members {
			if id, one := member.ID(); one {
				ids[id.String()] = id
				give(p.exact, id.String(), t.closure[role])
			} else {
				give(p.wildcard, member.prefix, t.closure[role])
			}
		}
	}
	for text, id := range ids {
		p.exact[text].merge(p.wildcard[parent(id)])
	}
	return p
}

// Held returns the roles that an ID holds, with all that they include. An ID of a foreign trust domain holds only what a
// binding gives it by its full name, because a wildcard never leaves the own trust domain. The caller must not change
// the set. Held does not allocate; a nil Policy and the zero ID hold nothing.
func (p *Policy) Held(id spiffeid.ID) Set {
	if p == nil || id.IsZero() {
		return nil
	}
	if set, ok := p.exact[id.String()]; ok {
		return set
	}
	if len(p.wildcard) == 0 {
		return nil
	}
	return p.wildcard[parent(id)]
}

// HeldBy returns the roles that a member of a binding holds: those of its ID, or those of every ID that its pattern
// matches.
func (p *Policy) HeldBy(m Member) Set {
	if id, one := m.ID(); one {
		return p.Held(id)
	}
	return p.wildcard[m.prefix]
}
