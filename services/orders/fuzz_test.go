package orders

import "testing"

// A place that is accepted is one that an order may have.
func FuzzParsePlace(f *testing.F) {
	f.Add(place{micros: 1763800000000000, id: "01930d5e-7c1a-7000-8000-000000000000"}.String())
	f.Add("+1 a")
	f.Add("1  a")
	f.Fuzz(func(t *testing.T, s string) {
		p, err := parsePlace(s)
		if err == nil && (p.String() != s || p.id == "") {
			t.Errorf("%q is accepted as %+v", s, p)
		}
	})
}
