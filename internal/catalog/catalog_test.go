package catalog_test

import (
	"slices"
	"testing"

	"example.com/rolecall/internal/catalog"
)

func TestEveryServiceStartsAfterThoseThatItCallsAndHasPortsOfItsOwn(t *testing.T) {
	t.Parallel()
	var started []string
	ports := map[int]string{}
	for _, s := range catalog.Services() {
		for _, peer := range s.Peers {
			if !slices.Contains(started, peer) {
				t.Errorf("%s calls %s, which has not been started by then", s.Name, peer)
			}
		}
		started = append(started, s.Name)
		for _, port := range []int{s.Offset, s.Offset + catalog.AdminOffset} {
			if other, taken := ports[port]; taken {
				t.Errorf("%s and %s both have offset %d", s.Name, other, port)
			}
			ports[port] = s.Name
		}
		if s.Descriptor == nil || s.Descriptor.Methods().Len() == 0 {
			t.Errorf("%s has no methods", s.Name)
		}
	}
	if started[0] != "authority" {
		t.Errorf("%s starts first, want authority: nobody has a certificate before it", started[0])
	}
}

func TestWhatEveryServerTellsOfItselfIsAmongTheDescriptors(t *testing.T) {
	t.Parallel()
	var names []string
	for _, d := range catalog.Descriptors() {
		names = append(names, string(d.FullName()))
	}
	if !slices.Contains(names, "rolecall.admin.v1.AdminService") || len(names) != len(catalog.Services())+1 {
		t.Errorf("descriptors of %v", names)
	}
}

func TestAServiceThatIsNotThereIsAnsweredWithThoseThatAre(t *testing.T) {
	t.Parallel()
	if _, err := catalog.Named("ledgre"); err == nil || err.Error() != `no service "ledgre": one of [authority users tokens keys ledger orders]` {
		t.Errorf("got %v", err)
	}
	if s, err := catalog.Named("ledger"); err != nil || s.Name != "ledger" {
		t.Errorf("ledger: %v, %v", s, err)
	}
}

func TestEveryServiceWithAMethodForUsersVerifiesThem(t *testing.T) {
	t.Parallel()
	var required []string
	for _, s := range catalog.Services() {
		if s.RequiresUser() {
			required = append(required, s.Name)
		}
		if s.RequiresUser() && !s.Users {
			t.Errorf("%s has a method that requires a user, and verifies none", s.Name)
		}
		if s.Name == catalog.Tokens && s.Users {
			t.Errorf("%s follows itself", s.Name)
		}
	}
	if want := []string{"users", "orders"}; !slices.Equal(required, want) {
		t.Errorf("methods that require a user are in %v, want %v", required, want)
	}
}
