package rootrotation_test

import (
	"crypto/x509"
	"path/filepath"
	"testing"
	"time"

	"example.com/rolecall/internal/rootrotation"
	"example.com/rolecall/pki"
)

// A root is replaced because it ends soon, and has cut its last issuer short: the issuer of the new one lives as others do.
func TestTheFirstIssuerOfANewRootIsNotAsShortAsTheLastOfTheOldOne(t *testing.T) {
	t.Parallel()
	old, err := pki.CreateRoot(filepath.Join(t.TempDir(), "root"), []byte("correct horse battery"), pki.RootOptions{TrustDomain: td, Life: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	bundle, err := pki.NewBundle([]*x509.Certificate{old.Certificate()})
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "authority")
	if err := pki.CreateAuthority(dir, td, bundle); err != nil {
		t.Fatal(err)
	}
	issuers, err := pki.OpenIssuers(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	csr, _, err := issuers.RequestIssuer()
	if err != nil {
		t.Fatal(err)
	}
	cert, err := old.SignIssuerCSR(csr, pki.DefaultIssuerLife)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := issuers.ImportIssuer(cert); err != nil {
		t.Fatal(err)
	}
	next := newRoot(t, "mesh.local")
	proposal, err := rootrotation.Propose(old, next)
	if err != nil {
		t.Fatal(err)
	}
	if err := rootrotation.Prepare(issuers, proposal); err != nil {
		t.Fatal(err)
	}
	if err := rootrotation.Activate(issuers, next); err != nil {
		t.Fatal(err)
	}
	list := issuers.Status()
	newest := list[len(list)-1]
	if life := newest.NotAfter.Sub(pki.IssuedAt(newest.Certificate)).Round(time.Minute); life != pki.DefaultIssuerLife {
		t.Errorf("the issuer of the new root lives %s, want %s", life, pki.DefaultIssuerLife)
	}
}
