package pki_test

import (
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"example.com/rolecall/pki"
)

// newAuthority makes an authority without a root at hand, whose root is that of the shared certificate authority.
func newAuthority(t *testing.T, bundle *x509bundle.Bundle) (*pki.Issuers, string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "authority")
	if err := pki.CreateAuthority(dir, domain, bundle); err != nil {
		t.Fatal(err)
	}
	issuers, err := pki.OpenIssuers(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	return issuers, dir
}

// pendingCSR returns the pending CSR.
func pendingCSR(t *testing.T, issuers *pki.Issuers) []byte {
	t.Helper()
	csr, _, err := issuers.RequestIssuer()
	if err != nil {
		t.Fatalf("RequestIssuer: %v", err)
	}
	return csr
}

// signCSR is what happens on the root's machine.
func signCSR(t *testing.T, root *pki.Root, csr []byte) *x509.Certificate {
	t.Helper()
	cert, err := root.SignIssuerCSR(csr, time.Hour)
	if err != nil {
		t.Fatalf("SignIssuerCSR: %v", err)
	}
	return cert
}

func TestAnIssuerOfAnOfflineRootIsAskedForSignedAndImported(t *testing.T) {
	t.Parallel()
	ca, _ := sharedCA(t)
	issuers, dir := newAuthority(t, nil) // the roots are not known yet
	if _, err := issuers.Issue(leafFor(t, "/service/ledger")); err == nil || !strings.Contains(err.Error(), "no issuer yet") {
		t.Errorf("Issue without an issuer: %v", err)
	}
	csr, generation, err := issuers.RequestIssuer()
	if err != nil || generation != 1 {
		t.Fatalf("RequestIssuer: generation %d, error %v", generation, err)
	}
	if again := pendingCSR(t, issuers); string(again) != string(csr) {
		t.Error("the second request is another one: the first may be on its way to the root")
	}
	cert := signCSR(t, ca.Root(), csr)
	if _, err := issuers.ImportIssuer(cert); err == nil || !strings.Contains(err.Error(), "--bundle ROOTS") {
		t.Errorf("import without roots: %v, want the option that gives them", err)
	}
	if err := pki.CreateAuthority(dir, domain, ca.Issuers().Bundle()); err != nil {
		t.Fatal(err)
	}
	status, err := issuers.ImportIssuer(cert)
	if err != nil || status.State != pki.Active || status.Generation != 1 {
		t.Fatalf("import: %+v, error %v; want issuer 1 ACTIVE, since no other can sign", status, err)
	}
	if again, err := issuers.ImportIssuer(cert); err != nil || again.Generation != 1 {
		t.Errorf("the same import again: %+v, error %v", again, err)
	}
	chain := issue(t, issuers, leafFor(t, "/service/ledger"))
	if !chain[1].Equal(cert) {
		t.Errorf("signed by %s, want the imported issuer", chain[1].Subject)
	}
	next, err := issuers.ImportIssuer(signCSR(t, ca.Root(), pendingCSR(t, issuers)))
	if err != nil || next.State != pki.Prepared || next.Generation != 2 {
		t.Errorf("next import: %+v, error %v; want issuer 2 PREPARED", next, err)
	}
	if got, want := onDisk(t, dir), "0001+key 0002+key"; got != want {
		t.Errorf("on disk: %s, want %s: requests that were used are gone", got, want)
	}
}

func TestAttacksOnTheImportOfAnIssuer(t *testing.T) {
	t.Parallel()
	ca, _ := sharedCA(t)
	issuers, _ := newAuthority(t, ca.Issuers().Bundle())
	csr := pendingCSR(t, issuers)
	good := signCSR(t, ca.Root(), csr)
	foreign, foreignDomain := newRoot(t, domain), newRoot(t, spiffeOther)
	otherKey, err := pki.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	signed := func(root *pki.Root, generation int) *x509.Certificate {
		cert, err := root.SignIssuer(good.PublicKey, generation, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		return cert
	}
	ofOtherKey, err := ca.Root().SignIssuer(otherKey.Public(), 1, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	leaf := leafFor(t, "/service/ledger")
	leaf.PublicKey = good.PublicKey
	for _, c := range []struct {
		attack string
		cert   *x509.Certificate
		want   string
	}{
		{"an issuer for another trust domain", signed(foreignDomain, 1), "is for the trust domain other.local, and this is the authority of mesh.local"},
		{"a leaf presented as CA", issue(t, ca.Issuers(), leaf)[0], "has a path, which only leaves have"},
		{"a root presented as issuer", ca.Root().Certificate(), "is a root"},
		{"an issuer of a root that is not in the bundle", signed(foreign, 1), "no root of the bundle has that key"},
		{"an issuer over another key", ofOtherKey, "holds another key than the pending request 1"},
		{"an issuer of another generation", signed(ca.Root(), 2), `its name is "issuer 2`},
	} {
		t.Run(c.attack, func(t *testing.T) {
			_, err := issuers.ImportIssuer(c.cert)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("ImportIssuer: %v, want a refusal with %q", err, c.want)
			}
			t.Log(err)
		})
	}
	if _, err := issuers.ImportIssuer(good); err != nil {
		t.Errorf("the right certificate after all that: %v", err)
	}
	if _, err := issuers.ImportIssuer(signed(ca.Root(), 2)); err == nil || !strings.Contains(err.Error(), "no issuer was asked for here") {
		t.Errorf("an issuer that nobody asked for: %v", err)
	}
}

func TestAnExpiredIssuerIsNotImported(t *testing.T) {
	t.Parallel()
	ca, _ := sharedCA(t)
	clock := newClock()
	clock.Set(time.Now())
	dir := filepath.Join(t.TempDir(), "authority")
	if err := pki.CreateAuthority(dir, domain, ca.Issuers().Bundle()); err != nil {
		t.Fatal(err)
	}
	issuers, err := pki.OpenIssuers(dir, clock.Now)
	if err != nil {
		t.Fatal(err)
	}
	cert := signCSR(t, ca.Root(), pendingCSR(t, issuers))
	clock.Set(time.Now().Add(2 * time.Hour))
	if _, err := issuers.ImportIssuer(cert); err == nil || !strings.Contains(err.Error(), "expired at") {
		t.Errorf("ImportIssuer: %v, want a refusal", err)
	}
	clock.Set(time.Now().Add(11 * 365 * 24 * time.Hour))
	if by := issuers.ActBy(); !strings.Contains(by.Reason, "the root") || !strings.Contains(by.Command, "pki root rotate prepare") {
		t.Errorf("after the end of the root: %+v, want the way to a new root", by)
	}
}

func TestAHundredProcessesAskAtOnceAndGetOneRequest(t *testing.T) {
	t.Parallel()
	ca, _ := sharedCA(t)
	_, dir := newAuthority(t, ca.Issuers().Bundle())
	var (
		mu       sync.Mutex
		requests = map[string]int{}
		running  sync.WaitGroup
	)
	for range 100 {
		running.Go(func() {
			issuers, err := pki.OpenIssuers(dir, nil) // its own lock, as another process has
			if err != nil {
				t.Error(err)
				return
			}
			csr, generation, err := issuers.RequestIssuer()
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			requests[fmt.Sprintf("%d %x", generation, csr)]++
		})
	}
	running.Wait()
	if len(requests) != 1 {
		t.Fatalf("%d different requests, want one", len(requests))
	}

	first, err := pki.OpenIssuers(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	cert := signCSR(t, ca.Root(), pendingCSR(t, first))
	for range 3 {
		running.Go(func() {
			issuers, err := pki.OpenIssuers(dir, nil)
			if err == nil {
				_, err = issuers.ImportIssuer(cert)
			}
			if err != nil {
				t.Errorf("the same import by another process: %v", err)
			}
		})
	}
	running.Wait()
	if got := onDisk(t, dir); got != "0001+key" {
		t.Errorf("on disk: %s, want one issuer and no request", got)
	}
}

// An import writes the issuer and then removes the request. Either may be what is found after a crash.
func TestAnImportThatWasCutOffIsCompletedByTheNextStep(t *testing.T) {
	t.Parallel()
	ca, _ := sharedCA(t)
	issuers, dir := newAuthority(t, ca.Issuers().Bundle())
	csr := pendingCSR(t, issuers)
	path := filepath.Join(dir, "issuers", "0001.request.pem")
	pending, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	cert := signCSR(t, ca.Root(), csr)
	if _, err := issuers.ImportIssuer(cert); err != nil {
		t.Fatal(err)
	}
	for name, step := range map[string]func() error{
		"the same import": func() error { _, err := issuers.ImportIssuer(cert); return err },
		"the next request": func() error {
			_, generation, err := issuers.RequestIssuer()
			if err == nil && generation != 2 {
				err = fmt.Errorf("generation %d, want 2", generation)
			}
			return err
		},
	} {
		if err := os.WriteFile(path, pending, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := step(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := os.Stat(path); err == nil {
			t.Errorf("%s left the used request behind", name)
		}
	}
}

// newRoot makes a root that is in no file.
func newRoot(t *testing.T, td spiffeid.TrustDomain) *pki.Root {
	t.Helper()
	root, err := pki.MemoryRoot(pki.RootOptions{TrustDomain: td})
	if err != nil {
		t.Fatal(err)
	}
	return root
}
