package interceptors_test

import (
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/bufbuild/protocompile"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"google.golang.org/protobuf/reflect/protoreflect"

	"example.com/rolecall/interceptors"
)

// policyServices compiles proto files, from sources and from this repository, and returns their services.
func policyServices(t *testing.T, sources map[string]string, paths ...string) []protoreflect.ServiceDescriptor {
	t.Helper()
	open := func(path string) (io.ReadCloser, error) {
		if source, ok := sources[path]; ok {
			return io.NopCloser(strings.NewReader(source)), nil
		}
		return os.Open(filepath.Join("..", "proto", filepath.FromSlash(path)))
	}
	compiler := protocompile.Compiler{Resolver: protocompile.WithStandardImports(&protocompile.SourceResolver{Accessor: open})}
	files, err := compiler.Compile(t.Context(), slices.Concat(slices.Sorted(maps.Keys(sources)), paths)...)
	if err != nil {
		t.Fatalf("compile %v: %v", paths, err)
	}
	var services []protoreflect.ServiceDescriptor
	for _, f := range files {
		for i := range f.Services().Len() {
			services = append(services, f.Services().Get(i))
		}
	}
	return services
}

const policyRoles = `trustDomain: mesh.local
bindings:
  - {role: ledger.writer, members: [spiffe://mesh.local/service/orders]}
  - {role: ledger.reader, members: ["spiffe://mesh.local/operator/*"]}
  - {role: ledger.reader, members: [spiffe://mesh.local/operator/bob, spiffe://partner.example/service/audit]}
  - {role: ledger.writer, members: [spiffe://mesh.local/service/orders, spiffe://mesh.local/service/stolen]}
  - {role: ledger.raeder, members: [spiffe://mesh.local/service/web]}
denied:
  - {member: spiffe://mesh.local/service/stolen, reason: stolen}
  - {member: spiffe://mesh.local/operator/bob, keySha256: "` + "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef" + `"}
`

func TestAPolicyTellsWhoMayCallWhat(t *testing.T) {
	t.Parallel()
	policy, err := interceptors.ReadPolicy([]byte(policyRoles), policyServices(t, nil, "ledger/v1/ledger.proto", "authority/v1/authority.proto")...)
	if err != nil {
		t.Fatalf("read policy: %v", err)
	}
	const ledger = "/ledger.v1.LedgerService/"
	i := slices.IndexFunc(policy.Methods, func(m interceptors.PolicyMethod) bool { return m.Method == ledger+"GetBalance" })
	want := interceptors.PolicyMethod{Method: ledger + "GetBalance", Roles: []string{"ledger.reader"}, Callers: []string{
		"spiffe://mesh.local/operator/*", "spiffe://mesh.local/operator/bob", "spiffe://mesh.local/service/orders", "spiffe://partner.example/service/audit"}}
	if diff := cmp.Diff(want, policy.Methods[i], cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("method: want (-), got (+):\n%s", diff)
	}
	i = slices.IndexFunc(policy.Members, func(m interceptors.PolicyMember) bool { return m.Member == "spiffe://mesh.local/service/orders" })
	if diff := cmp.Diff([]string{"ledger.reader", "ledger.writer"}, policy.Members[i].Roles); diff != "" {
		t.Errorf("member's roles: want (-), got (+):\n%s", diff)
	}
	if !slices.Contains(policy.Members[i].Methods, ledger+"Transfer") || slices.Contains(policy.Members[i].Methods, ledger+"OpenAccount") {
		t.Errorf("orders may call %v, want Transfer and not OpenAccount", policy.Members[i].Methods)
	}
	i = slices.IndexFunc(policy.Members, func(m interceptors.PolicyMember) bool { return m.Member == "spiffe://mesh.local/service/stolen" })
	if diff := cmp.Diff(interceptors.PolicyMember{Member: "spiffe://mesh.local/service/stolen", Roles: []string{"ledger.reader", "ledger.writer"}, Denied: "stolen"},
		policy.Members[i], cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("denied member: want (-), got (+):\n%s", diff)
	}
	i = slices.IndexFunc(policy.Roles, func(r interceptors.PolicyRole) bool { return r.Name == "ledger.writer" })
	if diff := cmp.Diff([]string{"spiffe://mesh.local/service/orders", "spiffe://mesh.local/service/stolen"}, policy.Roles[i].Holders); diff != "" {
		t.Errorf("holders: want (-), got (+):\n%s", diff)
	}
}

func TestAPolicyFindsWhatItsAuthorMayNotHaveMeant(t *testing.T) {
	t.Parallel()
	policy, err := interceptors.ReadPolicy([]byte(policyRoles), policyServices(t, nil, "ledger/v1/ledger.proto")...)
	if err != nil {
		t.Fatalf("read policy: %v", err)
	}
	type finding struct {
		Kind string
		Line int
	}
	var got []finding
	for _, f := range policy.Findings {
		t.Logf("%s, line %d: %s", f.Kind, f.Line, f.Message)
		got = append(got, finding{f.Kind, f.Line})
	}
	want := []finding{
		{"role-unheld", 0}, // ledger.admin
		{"member-duplicate", 5},
		{"member-foreign", 5},
		{"member-denied", 6},
		{"member-duplicate", 6},
		{"role-unknown", 7},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("findings: want (-), got (+):\n%s", diff)
	}
}

func TestAPolicyFindsAMethodThatNoMemberCanCall(t *testing.T) {
	t.Parallel()
	source := `syntax = "proto3"; package shop.v1; import "rolecall/v1/access.proto";
service Shop {
  option (rolecall.v1.role) = {name: "shop.buyer"};
  option (rolecall.v1.role) = {name: "shop.seller"};
  rpc Trade(M) returns (M) { option (rolecall.v1.requires_role) = "shop.buyer"; option (rolecall.v1.requires_role) = "shop.seller"; option (rolecall.v1.requires_proof) = true; }
}
message M {}`
	policy, err := interceptors.ReadPolicy([]byte("trustDomain: mesh.local\nbindings:\n"+
		"  - {role: shop.buyer, members: [spiffe://mesh.local/a]}\n  - {role: shop.seller, members: [spiffe://mesh.local/b]}\n"), policyServices(t, map[string]string{"shop.proto": source})...)
	if err != nil {
		t.Fatalf("read policy: %v", err)
	}
	want := []interceptors.PolicyFinding{{Kind: "method-unreachable", Message: "/shop.v1.Shop/Trade: no member holds all of shop.buyer, shop.seller"}}
	if diff := cmp.Diff(want, policy.Findings); diff != "" {
		t.Errorf("findings: want (-), got (+):\n%s", diff)
	}
	if !policy.Methods[0].Proof {
		t.Errorf("method %+v, want one that asks for a proof", policy.Methods[0])
	}
}

func TestMayCallAnswersAsAServerWould(t *testing.T) {
	t.Parallel()
	policy, err := interceptors.ReadPolicy([]byte(policyRoles), policyServices(t, nil, "ledger/v1/ledger.proto", "authority/v1/authority.proto")...)
	if err != nil {
		t.Fatalf("read policy: %v", err)
	}
	const transfer, bundle = "/ledger.v1.LedgerService/Transfer", "/authority.v1.AuthorityService/GetBundle"
	tests := []struct {
		name, id, method string
		want             bool
	}{
		{"holder of the role", "spiffe://mesh.local/service/orders", transfer, true},
		{"holder of a lesser role", "spiffe://mesh.local/operator/bob", transfer, false},
		{"denied holder", "spiffe://mesh.local/service/stolen", transfer, false},
		{"denied workload on a method for any", "spiffe://mesh.local/service/stolen", bundle, false},
		{"any workload", "spiffe://mesh.local/service/new", bundle, true},
		{"workload of a foreign trust domain on a method for any", "spiffe://partner.example/service/audit", bundle, false},
		{"workload of a foreign trust domain bound by name", "spiffe://partner.example/service/audit", "/ledger.v1.LedgerService/GetBalance", true},
		{"method that does not exist", "spiffe://mesh.local/service/orders", transfer + "/", false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if got := policy.MayCall(spiffeid.RequireFromString(test.id), test.method); got != test.want {
				t.Errorf("%s may call %s: %v, want %v", test.id, test.method, got, test.want)
			}
		})
	}
	if policy.MayCall(spiffeid.ID{}, bundle) {
		t.Error("nobody may call a method for any workload")
	}
}

func TestAPolicyThatNoServerWouldTakeIsNotRead(t *testing.T) {
	t.Parallel()
	services := policyServices(t, nil, "ledger/v1/ledger.proto")
	if _, err := interceptors.ReadPolicy([]byte("trustDomain: mesh.local\nbinding: []\n"), services...); err == nil || !strings.Contains(err.Error(), `2:1: unknown key "binding"`) {
		t.Errorf("error %v, want the mistake in the bindings", err)
	}
	bare := policyServices(t, map[string]string{"bare.proto": `syntax = "proto3"; package bare.v1; service Bare { rpc Get(M) returns (M); } message M {}`})
	if _, err := interceptors.ReadPolicy([]byte(policyRoles), bare...); err == nil || !strings.Contains(err.Error(), "/bare.v1.Bare/Get: no policy") {
		t.Errorf("error %v, want the method without a policy", err)
	}
}
