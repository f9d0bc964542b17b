package authz

import (
	"os"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection"
	"google.golang.org/protobuf/reflect/protoreflect"
)

const ledger = "ledger.v1.LedgerService"

// ledgerFiles compiles this repository's ledger.
func ledgerFiles(t testing.TB) []protoreflect.FileDescriptor {
	t.Helper()
	source, err := os.ReadFile("../../../proto/ledger/v1/ledger.proto")
	if err != nil {
		t.Fatalf("read the ledger: %v", err)
	}
	return compileProto(t, map[string]string{"ledger/v1/ledger.proto": string(source)})
}

func ledgerTable(t testing.TB) *Table {
	t.Helper()
	files := registry(t, ledgerFiles(t))
	table, err := Compile(registered(files, ledger), files, nil, []string{"requires_proof", "exactly_once"})
	if err != nil {
		t.Fatalf("compile the ledger: %v", err)
	}
	return table
}

func TestBothSidesOfTheRegistrationAreCompared(t *testing.T) {
	t.Parallel()
	files := registry(t, compileProto(t, map[string]string{"shop.proto": shop("", `option (rolecall.v1.requires_role) = "shop.buyer";`)}))
	const service, buy = "shop.v1.Shop", "/shop.v1.Shop/Buy"
	unary := []grpc.MethodInfo{{Name: "Buy"}}
	tests := []struct {
		name    string
		info    map[string]grpc.ServiceInfo
		allow   map[string]Rule
		subject string
		want    string
	}{
		{"method that the descriptor does not know", map[string]grpc.ServiceInfo{service: {Methods: append(slices.Clone(unary), grpc.MethodInfo{Name: "Steal"})}}, nil,
			"/shop.v1.Shop/Steal", "registered, but not in the descriptor"},
		{"method of the descriptor that is not registered", map[string]grpc.ServiceInfo{service: {}}, nil, buy, "in the descriptor of its service, but not registered"},
		{"method with other streams", map[string]grpc.ServiceInfo{service: {Methods: []grpc.MethodInfo{{Name: "Buy", IsServerStream: true}}}}, nil, buy, "registered with other streams"},
		{"method that is registered as unary and as stream", map[string]grpc.ServiceInfo{service: {Methods: append(slices.Clone(unary), grpc.MethodInfo{Name: "Buy", IsServerStream: true})}}, nil,
			buy, "registered twice"},
		{"service without a descriptor", map[string]grpc.ServiceInfo{"raw.Bytes": {Methods: []grpc.MethodInfo{{Name: "Get"}}}}, nil, "/raw.Bytes/Get", "no descriptor that could hold one"},
		{"service named like a message", map[string]grpc.ServiceInfo{"shop.v1.BuyRequest": {Methods: unary}}, nil, "shop.v1.BuyRequest", "not a service"},
		{"Allow for a method that is not registered", map[string]grpc.ServiceInfo{service: {Methods: unary}}, map[string]Rule{"/shop.v1.Shop/Sell": {AnyWorkload: true}},
			"/shop.v1.Shop/Sell", "not registered"},
		{"Allow without the first slash", map[string]grpc.ServiceInfo{service: {Methods: unary}}, map[string]Rule{"shop.v1.Shop/Buy": {AnyWorkload: true}},
			"shop.v1.Shop/Buy", "not registered"},
		{"Allow for an annotated method", map[string]grpc.ServiceInfo{service: {Methods: unary}}, map[string]Rule{buy: {AnyWorkload: true}}, buy, "says itself who may call it"},
		{"Allow for a health check", map[string]grpc.ServiceInfo{"grpc.health.v1.Health": {Methods: []grpc.MethodInfo{{Name: "Check"}}}},
			map[string]Rule{"/grpc.health.v1.Health/Check": {AnyWorkload: true}}, "/grpc.health.v1.Health/Check", "says itself who may call it"},
		{"Allow of nothing", map[string]grpc.ServiceInfo{"raw.Bytes": {Methods: []grpc.MethodInfo{{Name: "Get"}}}}, map[string]Rule{"/raw.Bytes/Get": {}}, "/raw.Bytes/Get", "exactly one of the two"},
		{"Allow of both", map[string]grpc.ServiceInfo{"raw.Bytes": {Methods: []grpc.MethodInfo{{Name: "Get"}}}},
			map[string]Rule{"/raw.Bytes/Get": {AnyWorkload: true, Roles: []string{"raw.getter"}}}, "/raw.Bytes/Get", "exactly one of the two"},
		{"Allow with an empty role", map[string]grpc.ServiceInfo{"raw.Bytes": {Methods: []grpc.MethodInfo{{Name: "Get"}}}},
			map[string]Rule{"/raw.Bytes/Get": {Roles: []string{""}}}, "/raw.Bytes/Get", "the role's name is empty"},
		{"Allow with a role of another owner that is not defined", map[string]grpc.ServiceInfo{"raw.Bytes": {Methods: []grpc.MethodInfo{{Name: "Get"}}}},
			map[string]Rule{"/raw.Bytes/Get": {Roles: []string{"shop.byuer"}}}, "/raw.Bytes/Get", `Allow "shop.byuer" is not defined`},
		{"method that a later gRPC adds to health", map[string]grpc.ServiceInfo{"grpc.health.v1.Health": {Methods: []grpc.MethodInfo{{Name: "Reset"}}}}, nil, "/grpc.health.v1.Health/Reset", "no policy"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			_, err := Compile(test.info, files, test.allow, nil)
			wantProblem(t, err, test.subject, test.want)
		})
	}
}

func TestHealthAndReflectionHaveRulesOfTheirOwn(t *testing.T) {
	t.Parallel()
	server := grpc.NewServer()
	healthv1.RegisterHealthServer(server, health.NewServer())
	reflection.Register(server)
	table, err := Compile(server.GetServiceInfo(), nil, nil, nil)
	if err != nil {
		t.Fatalf("compile: %v", err)
	}
	got := map[string]Rule{}
	for _, m := range table.Methods() {
		got[m.Full] = Rule{Roles: m.Roles, AnyWorkload: m.AnyWorkload}
		if m.Need.Empty() != m.AnyWorkload || table.Method(m.Full) != m {
			t.Errorf("method %+v: want an empty need exactly for any workload", m)
		}
	}
	reflector := Rule{Roles: []string{RoleReflector}}
	wantEqual(t, got, map[string]Rule{
		"/grpc.health.v1.Health/Check":                                   {AnyWorkload: true},
		"/grpc.health.v1.Health/List":                                    {AnyWorkload: true},
		"/grpc.health.v1.Health/Watch":                                   {AnyWorkload: true},
		"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo":      reflector,
		"/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": reflector,
	})
	for _, path := range []string{"", "/", "grpc.health.v1.Health/Check", "//grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Check/",
		"/grpc.health.v1.Health/check", "/grpc.health.v1.Health%2FCheck", "/grpc.health.v1.Health/"} {
		if m := table.Method(path); m != nil {
			t.Errorf("path %q has the policy of %s, want none", path, m.Full)
		}
	}
}

func TestARoleOfAServiceThatAnotherProcessRunsIsFound(t *testing.T) {
	t.Parallel()
	admin := `syntax = "proto3";
package shop.v2;
import "rolecall/v1/access.proto";
service Admin {
  option (rolecall.v1.role) = {name: "shop.owner" description: "Own." includes: "shop.buyer"};
  option (rolecall.v1.role) = {name: "shop.buyer" description: "Buy."};
}
`
	table, err := compileShop(t, shop("", `option (rolecall.v1.requires_role) = "shop.owner";`), map[string]string{"admin.proto": admin})
	if err != nil {
		t.Fatalf("compile: %v", err)
	}
	wantEqual(t, table.Names(table.Closure([]string{"shop.owner"})), []string{"shop.buyer", "shop.owner"})

	t.Run("and must mean the same", func(t *testing.T) {
		t.Parallel()
		other := strings.Replace(admin, `"Buy."`, `"Buy and sell."`, 1)
		_, err := compileShop(t, shop("", `option (rolecall.v1.requires_role) = "shop.owner";`), map[string]string{"admin.proto": other})
		wantProblem(t, err, "shop.v2.Admin", "")
		if err != nil && !strings.Contains(err.Error(), "another meaning") {
			t.Errorf("error %v, want one that says the meanings differ", err)
		}
	})
}

func TestTheOwnerIsThePackageWithoutItsVersion(t *testing.T) {
	t.Parallel()
	for pkg, want := range map[protoreflect.FullName]string{
		"ledger.v1": "ledger", "ledger.v1beta1": "ledger", "ledger.v12p1alpha3": "ledger", "ledger.v1alpha": "ledger", "ledger.v1test2": "ledger",
		"bank.ledger.v2": "bank.ledger", "ledger": "ledger", "ledger.video": "ledger.video", "ledger.v0": "ledger.v0", "ledger.v1.admin": "ledger.v1.admin", "": "", "v1": "",
	} {
		if got := ownerOfPackage(pkg); got != want {
			t.Errorf("owner of package %q is %q, want %q", pkg, got, want)
		}
	}
}
