package pki_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"

	"example.com/rolecall/pki"
)

// A source under a clock that the test sets, whose issuers can be taken away.
func TestASourceRenewsItselfAndLivesOnWhatItHasWhileNothingIsSigned(t *testing.T) {
	t.Parallel()
	dir, clock := copyOfAuthority(t), newClock()
	born := time.Now()
	clock.Set(born)
	issuers, err := pki.OpenIssuers(dir, clock.Now)
	if err != nil {
		t.Fatal(err)
	}
	id := spiffeid.RequireFromPath(domain, "/supervisor")
	source, err := pki.NewSource(issuers, pki.Leaf{ID: id, Life: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	at := func(after time.Duration) *x509svid.SVID {
		t.Helper()
		clock.Set(born.Add(after))
		svid, err := source.GetX509SVID()
		if err != nil {
			t.Fatalf("after %s: %v", after, err)
		}
		return svid
	}
	first := at(0)
	if _, _, err := x509svid.Verify(first.Certificates, source); err != nil || first.ID != id {
		t.Errorf("a certificate of %s, %v; want a good one of %s", first.ID, err, id)
	}
	if at(26*time.Minute) != first {
		t.Error("a new certificate before 45 % of its life")
	}
	second := at(34 * time.Minute)
	if second == first || second.PrivateKey == first.PrivateKey {
		t.Error("the first certificate or its key is still in use after 55 % of its life")
	}
	if err := os.Remove(filepath.Join(dir, "issuers", "0001.pem")); err != nil {
		t.Fatal(err)
	}
	if err := issuers.Refresh(); err != nil {
		t.Fatal(err)
	}
	if at(90*time.Minute) != second {
		t.Error("another certificate while nothing can be signed, want the one that is good still")
	}
	clock.Set(born.Add(2 * time.Hour))
	if svid, err := source.GetX509SVID(); err == nil {
		t.Errorf("after its end: a certificate until %s, want an error", svid.Certificates[0].NotAfter)
	}
}

func TestASourceRenewsAtOnceWhatARevokedIssuerSigned(t *testing.T) {
	t.Parallel()
	issuers, _ := withNext(t)
	source, err := pki.NewSource(issuers, pki.Leaf{ID: spiffeid.RequireFromPath(domain, "/supervisor"), Life: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	get := func() *x509svid.SVID {
		t.Helper()
		svid, err := source.GetX509SVID()
		if err != nil {
			t.Fatal(err)
		}
		return svid
	}
	first := get()
	if _, err := issuers.Revoke(1, "stolen"); err != nil {
		t.Fatal(err)
	}
	second := get()
	if second == first || !second.Certificates[1].Equal(issuers.Status()[1].Certificate) {
		t.Error("the certificate of a revoked issuer is still in use")
	}
	if get() != second {
		t.Error("it is renewed again and again")
	}
	if _, err := issuers.Revoke(2, "stolen as well"); err != nil {
		t.Fatal(err)
	}
	if get() != second {
		t.Error("another certificate though nothing can be signed, want the one that there is")
	}
}

func TestASourceRenewsOnceWhenTheClockWasSetBack(t *testing.T) {
	t.Parallel()
	dir, clock := copyOfAuthority(t), newClock()
	born := time.Now()
	clock.Set(born.Add(2 * time.Hour))
	issuers, err := pki.OpenIssuers(dir, clock.Now)
	if err != nil {
		t.Fatal(err)
	}
	source, err := pki.NewSource(issuers, pki.Leaf{ID: spiffeid.RequireFromPath(domain, "/supervisor"), Life: 10 * time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	first, err := source.GetX509SVID()
	if err != nil {
		t.Fatal(err)
	}
	clock.Set(born.Add(time.Hour)) // wall clock -1 h: the certificate is not valid yet
	second, err := source.GetX509SVID()
	if err != nil || second == first || clock.Now().Before(second.Certificates[0].NotBefore) {
		t.Fatalf("after the clock was set back: a certificate from %s (error %v), want one that is valid", second.Certificates[0].NotBefore, err)
	}
	for after := range 120 {
		clock.Set(born.Add(time.Hour + time.Duration(after)*time.Minute)) // and forward again
		if svid, err := source.GetX509SVID(); err != nil || svid != second {
			t.Fatalf("%d minutes later: another certificate (error %v), want one renewal for one jump", after, err)
		}
	}
}
