package ledger

import "testing"

// An entry_id that is accepted is the one that the ledger itself gives the entry.
func FuzzParseAfter(f *testing.F) {
	a := account{id: "01930d5e-7c1a-7000-8000-000000000000", entries: 40}
	f.Add(entryID(a.id, 1))
	f.Add(entryID(a.id, 41))
	f.Add(a.id + ".01")
	f.Add(a.id + ".-1")
	f.Fuzz(func(t *testing.T, entry string) {
		n, err := parseAfter(a, entry)
		if err == nil && entry != "" && (entryID(a.id, n) != entry || n < 1 || n > a.entries) {
			t.Errorf("%q is accepted as entry %d", entry, n)
		}
	})
}
