package up

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"example.com/rolecall/internal/catalog"
)

func TestTheSampleBindingsHaveNoFindingInAnyTrustDomain(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"mesh.local", "test.example"} {
		td := spiffeid.RequireTrustDomainFromString(name)
		policy, err := ensureRoles(newDir(t), td)
		if err != nil {
			t.Fatal(err)
		}
		if len(policy.Findings) > 0 {
			t.Errorf("%s: findings %v", name, policy.Findings)
		}
		if got := rolesOf(policy, catalog.OperatorID(td, "carol")); len(got) > 0 {
			t.Errorf("%s: carol holds %v, want nothing", name, got)
		}
		if got, want := rolesOf(policy, catalog.ID(td, "orders")), []string{"ledger.reader", "ledger.writer", "tokens.verifier", "users.reader"}; !slices.Equal(got, want) {
			t.Errorf("%s: orders holds %v, want no more than it needs, %v", name, got, want)
		}
		for _, agent := range []string{"/service/agent", "/agent/host2"} {
			if !policy.MayCall(spiffeid.RequireFromPath(td, agent), "/authority.v1.AuthorityService/ReportTrust") {
				t.Errorf("%s: %s may not report", name, agent)
			}
		}
		alice := catalog.OperatorID(td, "alice")
		for _, m := range policy.Methods {
			if may := policy.MayCall(alice, m.Method); may == betweenServices[m.Method] {
				t.Errorf("%s: alice may call %s: %v", name, m.Method, may)
			}
		}
		bob := catalog.OperatorID(td, "bob")
		for method, want := range map[string]bool{
			"/tokens.v1.TokensService/Login": true, "/orders.v1.OrdersService/PlaceOrder": true, "/users.v1.UsersService/GetSelf": true,
			"/tokens.v1.TokensService/RevokeUser": false, "/users.v1.UsersService/Create": false, "/ledger.v1.LedgerService/OpenAccount": false,
		} {
			if may := policy.MayCall(bob, method); may != want {
				t.Errorf("%s: bob may call %s: %v", name, method, may)
			}
		}
		if lines := missingBindings(policy, td); lines != "" {
			t.Errorf("%s: the sample itself lacks\n%s", name, lines)
		}
		if got := loginOperator(policy, td); got != "bob" {
			t.Errorf("%s: the login is shown through %q, want bob", name, got)
		}
	}
}

// betweenServices are the methods that are no person's to call: what agents say of themselves, and what tokens asks of users
// and other services of tokens.
var betweenServices = map[string]bool{
	"/authority.v1.AuthorityService/ReportTrust":   true,
	"/tokens.v1.TokensService/WatchRevocations":    true,
	"/users.v1.UsersService/GetTokenSubject":       true,
	"/users.v1.UsersService/RaiseTokenGeneration":  true,
	"/users.v1.UsersService/VerifyPassword":        true,
	"/users.v1.UsersService/WatchTokenGenerations": true,
}

func TestBindingsFromBeforeThereWereUsersAreToldWhatTheyLack(t *testing.T) {
	t.Parallel()
	dir, td := newDir(t), spiffeid.RequireTrustDomainFromString("test.example")
	before := "trustDomain: test.example\nbindings:\n  - role: users.admin\n    members: [spiffe://test.example/operator/alice]\n"
	if err := os.WriteFile(dir.Roles(), []byte(before), 0o600); err != nil {
		t.Fatal(err)
	}
	policy, err := ensureRoles(dir, td)
	if err != nil {
		t.Fatal(err)
	}
	if got := loginOperator(policy, td); got != "" {
		t.Errorf("a login is shown, through %s, that does not work", got)
	}
	lines := missingBindings(policy, td)
	for _, role := range []string{"users.verifier", "tokens.verifier", "tokens.login"} {
		if !strings.Contains(lines, "- role: "+role+"\n") {
			t.Errorf("%s is not told of:\n%s", role, lines)
		}
	}
	if err := os.WriteFile(dir.Roles(), []byte(before+lines), 0o600); err != nil {
		t.Fatal(err)
	}
	if policy, err = ensureRoles(dir, td); err != nil {
		t.Fatalf("with the lines added: %v", err)
	}
	if left := missingBindings(policy, td); left != "" {
		t.Errorf("with the lines added it lacks\n%s", left)
	}
	if got := loginOperator(policy, td); got != "alice" {
		t.Errorf("with the lines added the login is shown through %q, want alice", got)
	}
}

func TestEditedBindingsAreNeverOverwritten(t *testing.T) {
	t.Parallel()
	dir, td := newDir(t), spiffeid.RequireTrustDomainFromString("mesh.local")
	const edited = "trustDomain: mesh.local # edited by hand\n"
	if err := os.WriteFile(dir.Roles(), []byte(edited), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ensureRoles(dir, td); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(dir.Roles()); err != nil || string(got) != edited {
		t.Errorf("roles.yaml is %q now, %v; want %q", got, err, edited)
	}
}

func TestBindingsThatNoServiceWouldStartWithAreToldBeforeOneDoes(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ text, want string }{
		"a key that is none":     {"trustDomain: mesh.local\nbindngs: []\n", "bindngs"},
		"another trust domain":   {"trustDomain: test.example\n", "test.example"},
		"a file with no content": {"", "roles.yaml"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := newDir(t)
			if err := os.WriteFile(dir.Roles(), []byte(tt.text), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := ensureRoles(dir, spiffeid.RequireTrustDomainFromString("mesh.local")); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want an error that says %q", err, tt.want)
			}
		})
	}
}
