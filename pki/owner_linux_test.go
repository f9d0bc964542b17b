package pki_test

import (
	"os"
	"strings"
	"testing"

	"example.com/rolecall/pki"
)

// What root writes into the directory of the authority's user, that user could not read: a certificate that an
// administrator issues by hand would stop the authority for the day.
func TestRootDoesNotWriteIntoADirectoryOfSomebodyElse(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root can give a directory away")
	}
	dir := copyOfAuthority(t)
	if err := os.Chown(dir, 12345, -1); err != nil {
		t.Fatal(err)
	}
	issuers, err := pki.OpenIssuers(dir, nil) // looking is no harm
	if err != nil {
		t.Fatal(err)
	}
	_, issued := issuers.Issue(leafFor(t, "/service/ledger"))
	_, _, requested := issuers.RequestIssuer()
	for what, err := range map[string]error{"Issue": issued, "RequestIssuer": requested} {
		if err == nil || !strings.Contains(err.Error(), "sudo -u '#12345'") {
			t.Errorf("%s: %v, want a refusal that says whom to be", what, err)
		}
	}
	for name := range filesOf(t, dir) {
		if name == "lock" || name == "state.json" || strings.HasPrefix(name, "record/") {
			t.Errorf("%s was written", name)
		}
	}
}
