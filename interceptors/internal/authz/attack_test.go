package authz

import "testing"

// Attacks on the declaration of a policy: each tries to get a method served that is more open than its author wrote, or
// than this version can understand. The verdict of all is that the server does not start.
func TestAttacksOnAnnotationsStopTheServer(t *testing.T) {
	t.Parallel()
	const buy = "/shop.v1.Shop/Buy"
	future := `syntax = "proto3";
package future.v1;
import "google/protobuf/descriptor.proto";
extend google.protobuf.MethodOptions { bool requires_moon = 104879; }
extend google.protobuf.ServiceOptions { bool serves_moon = 104870; }
`
	withFuture := func(source string) string { return source + `import "future/v1/future.proto";` }
	const allowed = `option (rolecall.v1.requires_role) = "shop.buyer";`
	tests := []struct {
		attack, source string
		subject, want  string
		features       []string
	}{
		{attack: "method without an annotation", source: shop("", ""), subject: buy, want: "no policy"},
		{attack: "annotation number of the future on a method", source: withFuture(shop("", allowed+`option (future.v1.requires_moon) = true;`)),
			subject: buy, want: "option number 104879 belongs to rolecall.v1"},
		{attack: "method annotation's number on a service", source: withFuture(shop(`option (future.v1.serves_moon) = true;`, allowed)),
			subject: "shop.v1.Shop", want: "option number 104870 belongs to rolecall.v1"},
		{attack: "empty role", source: shop("", `option (rolecall.v1.requires_role) = "";`), subject: buy, want: "the role's name is empty"},
		{attack: "empty role beside a real one", source: shop("", allowed+`option (rolecall.v1.requires_role) = "";`), subject: buy, want: "the role's name is empty"},
		{attack: "duplicate role in one method", source: shop("", allowed+allowed), subject: buy, want: `"shop.buyer" is there twice`},
		{attack: "explicit false any_workload", source: shop("", `option (rolecall.v1.any_workload) = false;`), subject: buy, want: "any_workload = false says nothing"},
		{attack: "explicit false requires_proof beside a role", source: shop("", allowed+`option (rolecall.v1.requires_proof) = false;`),
			subject: buy, want: "requires_proof = false says nothing"},
		{attack: "requires_role together with any_workload", source: shop("", allowed+`option (rolecall.v1.any_workload) = true;`), subject: buy, want: "exclude each other"},
		{attack: "undefined role", source: shop("", `option (rolecall.v1.requires_role) = "shop.byuer";`), subject: buy, want: `"shop.byuer" is not defined (defined are shop.buyer)`},
		{attack: "role of an owner that is not linked", source: shop("", `option (rolecall.v1.requires_role) = "bank.buyer";`), subject: buy, want: `no service of package "bank" is linked`},
		{attack: "role with regular-expression characters", source: shop("", `option (rolecall.v1.requires_role) = "shop.*";`), subject: buy, want: "is not a role's name"},
		{attack: "role with a line break", source: shop("", `option (rolecall.v1.requires_role) = "shop.buyer\n";`), subject: buy, want: "is not a role's name"},
		{attack: "same role defined twice with another meaning", source: shop(`option (rolecall.v1.role) = {name: "shop.buyer" description: "Sell."};`, allowed),
			subject: "shop.v1.Shop", want: `role "shop.buyer" is defined twice`},
		{attack: "definition of another service's role", source: shop(`option (rolecall.v1.role) = {name: "ledger.admin" description: "Mine."};`, allowed),
			subject: "shop.v1.Shop", want: `role "ledger.admin" is not owned here`},
		{attack: "role named after a longer owner", source: shop(`option (rolecall.v1.role) = {name: "shopkeeper.buyer"};`, allowed),
			subject: "shop.v1.Shop", want: `is not owned here`},
		{attack: "role with a version in its name", source: shop(`option (rolecall.v1.role) = {name: "shop.v1.buyer"};`, allowed),
			subject: "shop.v1.Shop", want: `is not owned here`},
		{attack: "include of another owner's role", source: shop(`option (rolecall.v1.role) = {name: "shop.owner" includes: "ledger.admin"};`, allowed),
			subject: "shop.v1.Shop", want: `includes "ledger.admin" of another owner`},
		{attack: "include of an unknown role", source: shop(`option (rolecall.v1.role) = {name: "shop.owner" includes: "shop.seller"};`, allowed),
			subject: "shop.v1.Shop", want: `includes "shop.seller", which is not defined`},
		{attack: "include of oneself", source: shop(`option (rolecall.v1.role) = {name: "shop.owner" includes: "shop.owner"};`, allowed),
			subject: "shop.v1.Shop", want: `includes itself`},
		{attack: "circle of includes", source: shop(`
			option (rolecall.v1.role) = {name: "shop.a" includes: "shop.b"};
			option (rolecall.v1.role) = {name: "shop.b" includes: "shop.c"};
			option (rolecall.v1.role) = {name: "shop.c" includes: "shop.a"};`, allowed),
			subject: "shop.v1.Shop", want: "shop.a includes shop.b includes shop.c includes shop.a"},
		{attack: "same include twice", source: shop(`option (rolecall.v1.role) = {name: "shop.owner" includes: ["shop.buyer", "shop.buyer"]};`, allowed),
			subject: "shop.v1.Shop", want: `includes "shop.buyer" twice`},
		{attack: "requires_proof without the feature", source: shop("", allowed+`option (rolecall.v1.requires_proof) = true;`), subject: buy, want: `needs the feature "proof"`},
		{attack: "requires_user without the feature", source: shop("", allowed+`option (rolecall.v1.requires_user) = true;`), subject: buy, want: `needs the feature "usertoken"`},
		{attack: "requires_user_role without the feature", source: shop("", allowed+`option (rolecall.v1.requires_user_role) = "shop.buyer";`),
			subject: buy, want: `requires_user_role needs the feature "usertoken"`},
		{attack: "exactly_once without the feature", source: shop("", allowed+`option (rolecall.v1.exactly_once) = true; option idempotency_level = IDEMPOTENT;`),
			subject: buy, want: `needs the feature "exactlyonce"`},
		{attack: "condition without a workload's rule", source: shop("", `option (rolecall.v1.requires_user) = true;`), features: []string{"requires_user"},
			subject: buy, want: "no policy"},
		{attack: "undefined user role", source: shop("", allowed+`option (rolecall.v1.requires_user_role) = "shop.guest";`), features: []string{"requires_user_role"},
			subject: buy, want: `requires_user_role "shop.guest" is not defined`},
		{attack: "exactly_once without idempotency_level", source: shop("", allowed+`option (rolecall.v1.exactly_once) = true;`), features: []string{"exactly_once"},
			subject: buy, want: "idempotency_level = IDEMPOTENT"},
	}
	for _, test := range tests {
		t.Run(test.attack, func(t *testing.T) {
			t.Parallel()
			table, err := compileShop(t, test.source, map[string]string{"future/v1/future.proto": future}, test.features...)
			if err == nil {
				t.Fatalf("the server starts with %d methods, want a refusal that says %q", len(table.Methods()), test.want)
			}
			wantProblem(t, err, test.subject, test.want)
		})
	}
}

// Attacks by a caller or by whoever writes the bindings: each tries to hold more roles than a binding gives.
func TestAttacksOnHeldRolesGainNothing(t *testing.T) {
	t.Parallel()
	table := ledgerTable(t)
	bindings := mustBindings(t, `
trustDomain: mesh.local
bindings:
  - {role: ledger.reader, members: ["spiffe://mesh.local/ns/operator/*", spiffe://partner.example/service/audit]}
  - {role: ledger.writer, members: [spiffe://mesh.local/service/orders]}
  - {role: ledger.admin, members: ["spiffe://mesh.local/*"]}
  - {role: nobody.knows, members: [spiffe://mesh.local/service/future]}
`)
	policy := table.Bind(bindings)
	tests := []struct {
		attack, id string
		want       string // role that must not be held
	}{
		{"prefix member without segment border", "spiffe://mesh.local/ns/operators/alice", "ledger.reader"},
		{"wildcard over two segments", "spiffe://mesh.local/ns/operator/alice/laptop", "ledger.reader"},
		{"wildcard over no segment", "spiffe://mesh.local/ns/operator", "ledger.reader"},
		{"wildcard and a foreign trust domain", "spiffe://evil.example/ns/operator/alice", "ledger.reader"},
		{"wildcard of all paths and a foreign trust domain", "spiffe://evil.example/alice", "ledger.admin"},
		{"wildcard and a sub-domain of the trust domain", "spiffe://eve.mesh.local/ns/operator/alice", "ledger.reader"},
		{"wildcard and a trust domain that starts alike", "spiffe://mesh.locale/ns/operator/alice", "ledger.reader"},
		{"top wildcard and a longer path", "spiffe://mesh.local/service/eve", "ledger.admin"},
		{"path-less ID and the top wildcard", "spiffe://mesh.local", "ledger.admin"},
		{"longer ID than one bound by name", "spiffe://mesh.local/service/orders2", "ledger.writer"},
		{"shorter ID than one bound by name", "spiffe://mesh.local/service/order", "ledger.writer"},
		{"other case of an ID bound by name", "spiffe://mesh.local/service/Orders", "ledger.writer"},
		{"own ID in a foreign trust domain", "spiffe://partner.example/service/orders", "ledger.writer"},
		{"other ID of a foreign trust domain that has one bound by name", "spiffe://partner.example/service/audit2", "ledger.reader"},
		{"role that this server does not define", "spiffe://mesh.local/service/future", "ledger.reader"},
		{"reader and the role that includes his", "spiffe://mesh.local/ns/operator/alice", "ledger.writer"},
	}
	for _, test := range tests {
		t.Run(test.attack, func(t *testing.T) {
			t.Parallel()
			held := policy.Held(mustID(t, test.id))
			if i, ok := table.RoleIndex(test.want); !ok || held.Has(i) {
				t.Errorf("%s holds %v, must not hold %s", test.id, table.Names(held), test.want)
			}
		})
	}
}

// Attacks with the role subset that a caller sends: what is left is closure(held) ∩ closure(subset), never more than held.
func TestAttacksWithARoleSubsetGainNothing(t *testing.T) {
	t.Parallel()
	table := ledgerTable(t)
	held := table.Closure([]string{"ledger.writer"})
	tests := []struct {
		attack string
		subset []string
		want   []string
	}{
		{"superset", []string{"ledger.admin"}, []string{"ledger.reader", "ledger.writer"}},
		{"unknown role", []string{"ledger.root"}, []string{}},
		{"unknown role beside a known one", []string{"ledger.root", "ledger.reader"}, []string{"ledger.reader"}},
		{"duplicate role", []string{"ledger.reader", "ledger.reader"}, []string{"ledger.reader"}},
		{"empty list", nil, []string{}},
		{"empty name", []string{""}, []string{}},
		{"pattern", []string{"ledger.*", "*", ".*"}, []string{}},
		{"other case", []string{"Ledger.Writer"}, []string{}},
		{"name with spaces", []string{" ledger.writer "}, []string{}},
		{"role of another owner that the workload does not hold", []string{RoleReflector}, []string{}},
	}
	for _, test := range tests {
		t.Run(test.attack, func(t *testing.T) {
			t.Parallel()
			got := table.Names(held.And(table.Closure(test.subset)))
			wantEqual(t, got, test.want)
		})
	}
}
