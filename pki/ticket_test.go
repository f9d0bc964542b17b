package pki_test

import (
	"crypto/x509"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"example.com/rolecall/pki"
)

func TestATicketIsReadAsItWasWrittenAndNothingElse(t *testing.T) {
	t.Parallel()
	ca, _ := sharedCA(t)
	bundle := ca.Issuers().Bundle()
	key, err := pki.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	other, err := pki.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	chainFor := func(path string) []*x509.Certificate {
		return issue(t, ca.Issuers(), pki.Leaf{ID: spiffeid.RequireFromPath(domain, path), PublicKey: key.Public(), Life: 10 * time.Minute})
	}
	chain := chainFor("/join/host2")
	path := filepath.Join(t.TempDir(), "host2.ticket")
	if err := pki.WriteTicket(path, chain, key, bundle); err != nil {
		t.Fatal(err)
	}
	svid, roots, err := pki.ReadTicket(path)
	if err != nil {
		t.Fatal(err)
	}
	if svid.ID.Path() != "/join/host2" || !svid.Certificates[0].Equal(chain[0]) || len(svid.Certificates) != 2 || !roots.Equal(bundle) {
		t.Errorf("read back %s, %d certificates, roots equal %v", svid.ID, len(svid.Certificates), roots.Equal(bundle))
	}
	foreign := x509bundle.FromX509Authorities(domain, []*x509.Certificate{newRoot(t, domain).Certificate()})
	unused := filepath.Join(t.TempDir(), "unused.ticket")
	for _, c := range []struct {
		attack string
		write  error
		want   string
	}{
		{"a service's certificate", pki.WriteTicket(unused, chainFor("/service/ledger"), key, bundle), "for a path under /join/"},
		{"no name", pki.WriteTicket(unused, chainFor("/join"), key, bundle), "for a path under /join/"},
		{"another key", pki.WriteTicket(unused, chain, other, bundle), "not that of its certificate"},
		{"roots that did not sign it", pki.WriteTicket(unused, chain, key, foreign), "did not sign"},
		{"no roots", pki.WriteTicket(unused, chain, key, x509bundle.New(domain)), "0 roots"},
		{"no certificate", pki.WriteTicket(unused, nil, key, bundle), "0 certificates"},
		{"an issuer presented as leaf", pki.WriteTicket(unused, chain[1:], key, bundle), "no authority"},
	} {
		if c.write == nil || !strings.Contains(c.write.Error(), c.want) {
			t.Errorf("%s: %v, want a refusal with %q", c.attack, c.write, c.want)
		}
	}
	if _, err := os.Stat(unused); err == nil {
		t.Error("a ticket that was refused was written")
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for attack, bad := range map[string]string{
		"truncated":       string(data[:len(data)/2]),
		"two keys":        string(data) + string(data),
		"nothing":         "",
		"a hundred certs": strings.Repeat(strings.Split(string(data), "-----BEGIN PRIVATE")[0], 50) + string(data),
	} {
		if err := os.WriteFile(unused, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, _, err := pki.ReadTicket(unused); err == nil {
			t.Errorf("%s: accepted", attack)
		}
	}
	if runtime.GOOS == "windows" {
		return
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, _, err := pki.ReadTicket(path); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("file mode 0644: %v, want a refusal with the chmod that repairs it", err)
	}
}
