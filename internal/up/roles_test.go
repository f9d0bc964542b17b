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
		if got, want := rolesOf(policy, catalog.ID(td, "orders")), []string{"ledger.reader", "ledger.writer", "users.reader"}; !slices.Equal(got, want) {
			t.Errorf("%s: orders holds %v, want no more than it needs, %v", name, got, want)
		}
		for _, agent := range []string{"/service/agent", "/agent/host2"} {
			if !policy.MayCall(spiffeid.RequireFromPath(td, agent), "/authority.v1.AuthorityService/ReportTrust") {
				t.Errorf("%s: %s may not report", name, agent)
			}
		}
		alice := catalog.OperatorID(td, "alice")
		for _, m := range policy.Methods {
			// What agents say of themselves is nobody else's to say.
			if may := policy.MayCall(alice, m.Method); may == (m.Method == "/authority.v1.AuthorityService/ReportTrust") {
				t.Errorf("%s: alice may call %s: %v", name, m.Method, may)
			}
		}
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
