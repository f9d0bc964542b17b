package interceptors_test

import (
	"testing"

	"google.golang.org/grpc/codes"

	authorityv1 "example.com/rolecall/gen/authority/v1"
	"example.com/rolecall/interceptors"
)

func TestRolesDecideWhoMayCall(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	for _, c := range []struct {
		name, path string
	}{
		{name: "a reader may read", path: reader},
		{name: "a writer may read too, because the role includes it", path: writer},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := balance(t, m.dial(c.path)); err != nil {
				t.Fatal(err)
			}
		})
	}
	info := refused(t, transfer(t, m.dial(reader)), codes.PermissionDenied, "ROLE_REQUIRED")
	if info["method"] != "/ledger.v1.LedgerService/Transfer" || info["role"] != "ledger.writer" || info["narrowed"] != "" {
		t.Errorf("metadata of the refusal: %v", info)
	}
	refused(t, balance(t, m.dial(nobody)), codes.PermissionDenied, "ROLE_REQUIRED")
	if _, err := authorityv1.NewAuthorityServiceClient(m.dial(nobody)).GetBundle(timeout(t), &authorityv1.GetBundleRequest{}); err != nil {
		t.Errorf("any workload may call GetBundle: %v", err)
	}
	m.audit.find(t, map[string]any{"verdict": "denied", "reason": "ROLE_REQUIRED", "method": "/ledger.v1.LedgerService/Transfer", "workload": "spiffe://mesh.local/service/reader"})
	m.audit.find(t, map[string]any{"verdict": "allowed", "method": "/ledger.v1.LedgerService/GetBalance", "workload": "spiffe://mesh.local/service/writer"})
}

func TestNarrowTakesRolesAwayForOneCall(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	conn := m.dial(writer)
	for _, c := range []struct {
		name   string
		subset [][]string
		want   codes.Code
	}{
		{"absent: all roles", nil, codes.OK},
		{"the role itself", [][]string{{"ledger.writer"}}, codes.OK},
		{"a role that includes it", [][]string{{"ledger.admin"}}, codes.OK},
		{"another role", [][]string{{"ledger.reader"}}, codes.PermissionDenied},
		{"empty: none", [][]string{{}}, codes.PermissionDenied},
		{"unknown names give nothing", [][]string{{"ledger.unknown", "users.admin"}}, codes.PermissionDenied},
		{"a duplicate changes nothing", [][]string{{"ledger.writer", "ledger.writer"}}, codes.OK},
		{"several values intersect to nothing", [][]string{{"ledger.writer"}, {"ledger.reader"}}, codes.PermissionDenied},
		{"several values intersect to the role", [][]string{{"ledger.writer"}, {"ledger.admin"}}, codes.OK},
		{"a list joined by a comma is an unknown name", [][]string{{"ledger.writer,ledger.reader"}}, codes.PermissionDenied},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := transferNarrowed(t, conn, c.subset)
			if c.want == codes.OK {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if info := refused(t, err, c.want, "ROLE_REQUIRED"); info["narrowed"] != "true" {
				t.Errorf("metadata %v does not say that the caller had narrowed", info)
			}
		})
	}
	t.Run("a subset never gives a role", func(t *testing.T) {
		info := refused(t, transferNarrowed(t, m.dial(reader), [][]string{{"ledger.admin"}}), codes.PermissionDenied, "ROLE_REQUIRED")
		if info["narrowed"] != "" {
			t.Errorf("metadata %v blames the narrowing for a role that the caller does not hold", info)
		}
	})
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	for _, c := range []struct {
		name     string
		source   interceptors.Source
		bindings interceptors.Bindings
		opt      interceptors.Option
	}{
		{"no source", nil, nil, interceptors.AuditAllowed()},
		{"bindings of another trust domain", m.source, interceptors.BindingsYAML([]byte("trustDomain: other.local\n")), interceptors.AuditAllowed()},
		{"a bindings file that is not there", m.source, interceptors.BindingsFile(t.TempDir() + "/roles.yaml"), interceptors.AuditAllowed()},
		{"a nil audit handler", m.source, nil, interceptors.Audit(nil)},
		{"a rule that is neither", m.source, nil, interceptors.Allow("/x.Y/Z", interceptors.Rule{})},
		{"a rule that is both", m.source, nil, interceptors.Allow("/x.Y/Z", interceptors.Rule{AnyWorkload: true, Roles: []string{"x.y"}})},
		{"a rule for no method", m.source, nil, interceptors.Allow("x.Y", interceptors.Rule{AnyWorkload: true})},
		{"limits of nothing", m.source, nil, interceptors.PeerLimits(0, 1)},
	} {
		t.Run(c.name, func(t *testing.T) {
			if g, err := interceptors.New(c.source, c.bindings, c.opt); err == nil {
				_ = g.Close()
				t.Fatal("New took it")
			} else {
				t.Log(err)
			}
		})
	}
}

func TestALeafUnderAnIntermediateIsLetIn(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	issuer, issuerKey := m.ca.Intermediate()
	leaf, key := m.ca.IssueUnder(issuer, issuerKey, reader)
	source := m.ca.Source(reader)
	source.Use(key, leaf, issuer)
	if err := balance(t, m.dialAs(source)); err != nil {
		t.Fatal(err)
	}
}
