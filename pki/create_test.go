package pki_test

import (
	"crypto/x509"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"example.com/rolecall/pki"
)

func TestAnAuthorityIsCompletedAndNeverOverwritten(t *testing.T) {
	t.Parallel()
	ca, _ := sharedCA(t)
	bundle := ca.Issuers().Bundle()
	_, dir := newAuthority(t, bundle)
	credential, err := os.ReadFile(filepath.Join(dir, "credential"))
	if err != nil {
		t.Fatal(err)
	}
	other := x509bundle.FromX509Authorities(domain, []*x509.Certificate{newRoot(t, domain).Certificate()})
	leaf := issue(t, ca.Issuers(), leafFor(t, "/service/ledger"))[0]
	for _, c := range []struct {
		name   string
		td     string
		bundle *x509bundle.Bundle
		want   string // "" for accepted
	}{
		{"the same again", "mesh.local", bundle, ""},
		{"without the bundle", "mesh.local", nil, ""},
		{"another trust domain", "other.local", nil, "it is the authority of the trust domain mesh.local"},
		{"another root", "mesh.local", other, "pki root rotate prepare"},
		{"a bundle of another trust domain", "other.local", bundle, "not of other.local"},
		{"a leaf in the bundle", "mesh.local", x509bundle.FromX509Authorities(domain, []*x509.Certificate{leaf}), "has a path"},
	} {
		err := pki.CreateAuthority(dir, spiffeid.RequireTrustDomainFromString(c.td), c.bundle)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
	after, err := os.ReadFile(filepath.Join(dir, "credential"))
	if err != nil || string(after) != string(credential) {
		t.Errorf("the credential was overwritten (error %v)", err)
	}
}

func TestTheCredentialMayLieElsewhere(t *testing.T) {
	t.Parallel()
	authority := copyOfAuthority(t)
	elsewhere := filepath.Join(t.TempDir(), "credential")
	if err := os.Rename(filepath.Join(authority, "credential"), elsewhere); err != nil {
		t.Fatal(err)
	}
	if _, err := pki.OpenIssuers(authority, nil); err == nil || !strings.Contains(err.Error(), "credential of the issuer keys") {
		t.Errorf("without the credential: %v, want an error that names it", err)
	}
	issuers, err := pki.OpenIssuers(authority, nil, pki.WithCredential(elsewhere))
	if err != nil {
		t.Fatal(err)
	}
	issue(t, issuers, leafFor(t, "/service/ledger"))
	if err := os.WriteFile(elsewhere, []byte("another\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := pki.OpenIssuers(authority, nil, pki.WithCredential(elsewhere)); err == nil || !strings.Contains(err.Error(), "0001.pem") {
		t.Errorf("with another credential: %v, want an error that names the key", err)
	}
}
