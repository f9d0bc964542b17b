package authz

import "math/bits"

// Set is a set of roles of one Table, a bit for each index. Nil is the empty set. Sets of different tables mean
// different things and must not meet. A Set that a Table, a Method or a Policy gave out is shared: never write to it.
type Set []uint64

// newSet returns an empty set with room for n roles.
func newSet(n int) Set { return make(Set, (n+63)/64) }

// add puts the role with index i, which newSet left room for, into the set.
func (s Set) add(i int) { s[i/64] |= 1 << (i % 64) }

// merge puts every role of other, a set of the same table, into s.
func (s Set) merge(other Set) {
	for i, word := range other {
		s[i] |= word
	}
}

// Has reports whether the role with index i is in the set. An index that no role has is in no set.
func (s Set) Has(i int) bool {
	return i >= 0 && i/64 < len(s) && s[i/64]&(1<<(i%64)) != 0
}

// ContainsAll reports whether every role of need is in the set. It does not allocate. Every set contains the empty set,
// so a need that nobody filled in is met by everyone: Compile never makes a Method with an empty Need and no AnyWorkload.
func (s Set) ContainsAll(need Set) bool {
	for i, word := range need {
		var have uint64
		if i < len(s) {
			have = s[i]
		}
		if word&^have != 0 {
			return false
		}
	}
	return true
}

// And returns a new set of the roles that are in both.
func (s Set) And(other Set) Set {
	both := make(Set, min(len(s), len(other)))
	for i := range both {
		both[i] = s[i] & other[i]
	}
	return both
}

// Empty reports whether no role is in the set.
func (s Set) Empty() bool {
	for _, word := range s {
		if word != 0 {
			return false
		}
	}
	return true
}

// each calls visit with the index of every role in the set, in ascending order.
func (s Set) each(visit func(i int)) {
	for w, word := range s {
		for ; word != 0; word &= word - 1 {
			visit(w*64 + bits.TrailingZeros64(word))
		}
	}
}
