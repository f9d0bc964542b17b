package authz

import (
	"fmt"
	"strings"
	"testing"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

const roles = `
trustDomain: mesh.local
bindings:
  - {role: ledger.reader, members: ["spiffe://mesh.local/operator/*", spiffe://partner.example/service/audit]}
  - {role: ledger.writer, members: [spiffe://mesh.local/service/orders, spiffe://mesh.local/operator/alice]}
  - {role: ledger.admin, members: [spiffe://mesh.local/operator/root]}
  - {role: ledger.admin, members: ["spiffe://mesh.local/*"]}
  - {role: orders.writer, members: [spiffe://mesh.local/service/web]}
`

func TestAWorkloadHoldsWhatItsBindingsGive(t *testing.T) {
	t.Parallel()
	table := ledgerTable(t)
	policy := table.Bind(mustBindings(t, roles))
	all := []string{"ledger.admin", "ledger.reader", "ledger.writer"}
	tests := []struct {
		name, id string
		want     []string
	}{
		{"by its name, with what the role includes", "spiffe://mesh.local/service/orders", []string{"ledger.reader", "ledger.writer"}},
		{"by a wildcard", "spiffe://mesh.local/operator/bob", []string{"ledger.reader"}},
		{"by its name and a wildcard", "spiffe://mesh.local/operator/alice", []string{"ledger.reader", "ledger.writer"}},
		{"by a role on top of the others", "spiffe://mesh.local/operator/root", all},
		{"by a wildcard of all first segments", "spiffe://mesh.local/boss", all},
		{"by its full name from a foreign trust domain", "spiffe://partner.example/service/audit", []string{"ledger.reader"}},
		{"nothing from a role that this server does not define", "spiffe://mesh.local/service/web", []string{}},
		{"nothing without a binding", "spiffe://mesh.local/service/eve", []string{}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			wantEqual(t, table.Names(policy.Held(mustID(t, test.id))), test.want)
		})
	}
	if held := (*Policy)(nil).Held(mustID(t, "spiffe://mesh.local/boss")); !held.Empty() {
		t.Errorf("without a policy %v is held", held)
	}
}

func TestADenialRefusesTheIDTheKeyOrThePair(t *testing.T) {
	t.Parallel()
	hex := func(b byte) string { return strings.Repeat(fmt.Sprintf("%02x", b), 32) }
	key := func(b byte) (k [32]byte) {
		for i := range k {
			k[i] = b
		}
		return k
	}
	b := mustBindings(t, fmt.Sprintf(`
trustDomain: mesh.local
denied:
  - {member: spiffe://mesh.local/service/stolen, reason: stolen}
  - {keySha256: "%s", reason: lost key}
  - {member: spiffe://mesh.local/operator/alice, keySha256: "%s", reason: old laptop}
  - {member: spiffe://evil.example/service/eve}
`, hex(1), hex(2)))
	tests := []struct {
		name, id string
		key      byte
		peer, ca string // the reasons; empty: not denied
	}{
		{"ID with any key", "spiffe://mesh.local/service/stolen", 9, "stolen", ""},
		{"key with any ID", "spiffe://mesh.local/service/orders", 1, "lost key", "lost key"},
		{"ID with the key of the pair", "spiffe://mesh.local/operator/alice", 2, "old laptop", "old laptop"},
		{"ID of a pair with another key", "spiffe://mesh.local/operator/alice", 3, "", ""},
		{"key of a pair with another ID", "spiffe://mesh.local/operator/bob", 2, "", ""},
		{"ID of a foreign trust domain", "spiffe://evil.example/service/eve", 9, "line 7 of the bindings", ""},
		{"ID of the same path in the own trust domain", "spiffe://mesh.local/service/eve", 9, "", ""},
		{"longer ID", "spiffe://mesh.local/service/stolen/2", 9, "", ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			ask := func(question string, denied func(spiffeid.ID, [32]byte) (string, bool), want string) {
				if reason, got := denied(mustID(t, test.id), key(test.key)); reason != want || got != (want != "") {
					t.Errorf("%s %s with key %d: denied %v for %q, want reason %q", question, test.id, test.key, got, reason, want)
				}
			}
			ask("peer", b.DeniedPeer, test.peer)
			ask("CA of", b.DeniedCA, test.ca)
		})
	}
}

func TestADecisionDoesNotAllocate(t *testing.T) {
	table := ledgerTable(t)
	b := mustBindings(t, manyBindings(1000))
	policy := table.Bind(b)
	need := table.Method("/" + ledger + "/GetBalance").Need
	orders, operator := mustID(t, "spiffe://mesh.local/service/orders"), mustID(t, "spiffe://mesh.local/operator/bob")
	if n := testing.AllocsPerRun(100, func() {
		_, denied := b.DeniedPeer(orders, [32]byte{})
		if denied || !policy.Held(orders).ContainsAll(need) || !policy.Held(operator).ContainsAll(need) {
			t.Error("refused")
		}
	}); n != 0 {
		t.Errorf("%v allocations for a decision, want none", n)
	}
}

// manyBindings returns a bindings file in which orders and the operators are two of n members.
func manyBindings(n int) string {
	var b strings.Builder
	b.WriteString("trustDomain: mesh.local\nbindings:\n  - role: ledger.reader\n    members:\n")
	b.WriteString("      - \"spiffe://mesh.local/operator/*\"\n      - spiffe://mesh.local/service/orders\n")
	for i := range n {
		fmt.Fprintf(&b, "      - spiffe://mesh.local/service/s%d\n      - \"spiffe://mesh.local/group%d/*\"\n", i, i)
	}
	return b.String()
}

func BenchmarkContainsAll(b *testing.B) {
	table := ledgerTable(b)
	held := table.Closure([]string{"ledger.admin"})
	need := table.Method("/" + ledger + "/ImportEntries").Need
	b.ReportAllocs()
	for b.Loop() {
		if !held.ContainsAll(need) {
			b.Fatal("refused")
		}
	}
}

func BenchmarkHeld(b *testing.B) {
	table := ledgerTable(b)
	for _, n := range []int{10, 10_000} {
		policy := table.Bind(mustBindings(b, manyBindings(n)))
		for name, text := range map[string]string{
			"by name": "spiffe://mesh.local/service/orders", "by wildcard": "spiffe://mesh.local/operator/bob", "not at all": "spiffe://mesh.local/service/eve",
		} {
			id := mustID(b, text)
			b.Run(fmt.Sprintf("%s of %d", name, n), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					_ = policy.Held(id)
				}
			})
		}
	}
}
