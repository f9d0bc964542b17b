package authz

import "testing"

func setOf(n int, indices ...int) Set {
	s := newSet(n)
	for _, i := range indices {
		s.add(i)
	}
	return s
}

func members(s Set) []int {
	list := []int{}
	s.each(func(i int) { list = append(list, i) })
	return list
}

func TestASetContainsExactlyWhatIsInIt(t *testing.T) {
	t.Parallel()
	held := setOf(130, 0, 63, 64, 129)
	tests := []struct {
		name string
		need Set
		want bool
	}{
		{"nothing", nil, true},
		{"nothing, with room", newSet(130), true},
		{"one", setOf(130, 63), true},
		{"all", setOf(130, 0, 63, 64, 129), true},
		{"one more", setOf(130, 0, 1), false},
		{"one that differs in the last word", setOf(130, 128), false},
	}
	for _, test := range tests {
		if got := held.ContainsAll(test.need); got != test.want {
			t.Errorf("%s: contains %v in %v is %v, want %v", test.name, members(test.need), members(held), got, test.want)
		}
	}
	if Set(nil).ContainsAll(setOf(130, 129)) || setOf(64, 1).ContainsAll(setOf(130, 1, 129)) {
		t.Error("a shorter set contains what it has no room for")
	}
	for i, want := range map[int]bool{-1: false, 0: true, 1: false, 63: true, 64: true, 129: true, 130: false, 1 << 40: false} {
		if held.Has(i) != want {
			t.Errorf("index %d is in the set: %v, want %v", i, !want, want)
		}
	}
}

func TestSetsOfDifferentLengthMeet(t *testing.T) {
	t.Parallel()
	short, long := setOf(64, 1, 2), setOf(130, 2, 129)
	for _, pair := range [][2]Set{{short, long}, {long, short}} {
		wantEqual(t, members(pair[0].And(pair[1])), []int{2})
	}
	wantEqual(t, members(short), []int{1, 2})
	wantEqual(t, members(long), []int{2, 129})
	if !Set(nil).Empty() || !newSet(130).Empty() || long.Empty() {
		t.Error("empty is not told from filled")
	}
}
