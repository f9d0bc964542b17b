package call_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"example.com/rolecall/internal/call"
)

func TestAMethodHasSeveralNames(t *testing.T) {
	t.Parallel()
	for _, name := range []string{
		"ledger.v1.LedgerService/GetBalance", "/ledger.v1.LedgerService/GetBalance", "ledger.v1.LedgerService.GetBalance", "/ledger.v1.LedgerService.GetBalance",
		"ledger/GetBalance", "/ledger/GetBalance", "ledger.GetBalance", "LedgerService/GetBalance", "LedgerService.GetBalance",
	} {
		m, err := call.Find(call.Builtin(), name)
		if err != nil || m.Full() != "/ledger.v1.LedgerService/GetBalance" || m.Server != "ledger" || m.Short() != "ledger/GetBalance" {
			t.Errorf("%s: got %q of %q, %v", name, m.Short(), m.Server, err)
		}
	}
}

func TestAServiceHasSeveralNames(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"ledger", "LedgerService", "ledger.v1.LedgerService", "/ledger.v1.LedgerService", "ledger/"} {
		if s, err := call.FindService(call.Builtin(), name); err != nil || s.Server != "ledger" {
			t.Errorf("%s: got %q, %v", name, s.Server, err)
		}
	}
	if s, err := call.FindService(call.Builtin(), ""); err == nil {
		t.Errorf("no name: got %v", s)
	}
}

func TestAnUnknownMethodIsToldWithNearOnes(t *testing.T) {
	t.Parallel()
	for name, near := range map[string]string{
		"ledger/GetBalanse": "ledger/GetBalance", "ledger/getbalance": "ledger/GetBalance", "leger/Transfer": "ledger/Transfer",
		"LedgerServce/Transfer": "ledger/Transfer", "ledger.v2.LedgerService/Transfer": "ledger/Transfer", "order/PlaceOrder": "orders/PlaceOrder",
		"Transfer": "ledger/Transfer", "placeorder": "orders/PlaceOrder", "leger": "ledger", "LedgerServce": "ledger",
	} {
		_, err := call.Find(call.Builtin(), name)
		var unknown *call.UnknownError
		if !errors.As(err, &unknown) || len(unknown.Near) == 0 || unknown.Near[0] != near {
			t.Errorf("%s: got %v, want %s first", name, err, near)
		}
	}
	for _, name := range []string{"", "/", "x", "nosuch", "ledger/", "quite.v1.Different/Thing", strings.Repeat("a", 10_000) + "/b"} {
		m, err := call.Find(call.Builtin(), name)
		if err == nil || strings.Contains(err.Error(), "near it: orders") {
			t.Errorf("%.20q: got %q, %v", name, m.Short(), err)
		}
	}
}

func TestANameOfSeveralServicesIsNotGuessed(t *testing.T) {
	t.Parallel()
	services := append(call.Builtin(), call.Builtin()[0])
	want := []string{"authority.v1.AuthorityService", "authority.v1.AuthorityService"}
	_, err := call.Find(services, "authority/GetBundle")
	var unknown *call.UnknownError
	if !errors.As(err, &unknown) {
		t.Fatalf("got %v", err)
	}
	if diff := cmp.Diff(want, unknown.Among); diff != "" {
		t.Errorf("among (-want +got):\n%s", diff)
	}
}

func TestRolesOfUsersAloneAreNoneOfWorkloads(t *testing.T) {
	t.Parallel()
	roles := call.Roles(call.Builtin())
	if slices.Contains(roles, "orders.customer") || !slices.Contains(roles, "orders.writer") || !slices.Contains(roles, "rolecall.reflector") {
		t.Errorf("got %q", roles)
	}
}

func TestEveryMethodSaysWhatItRequires(t *testing.T) {
	t.Parallel()
	seen := 0
	for _, s := range call.Builtin() {
		for _, m := range s.Methods() {
			seen++
			if m.Requires.String() == "" {
				t.Errorf("%s requires nothing", m.Full())
			}
			if again, err := call.Find(call.Builtin(), m.Short()); err != nil || again.Full() != m.Full() {
				t.Errorf("the short form %s: %q, %v", m.Short(), again.Full(), err)
			}
		}
	}
	if seen < 40 {
		t.Errorf("%d methods", seen)
	}
}
