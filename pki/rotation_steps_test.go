package pki_test

import (
	"crypto/x509"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"example.com/rolecall/pki"
)

// Each step of a rotation writes several files. A copy of the directory is made with each prefix of these writes, as a
// crash would leave it, and must be readable, must sign, and must come to the same end when the step is repeated.
func TestACrashBetweenAnyTwoWritesOfARotationIsRepaired(t *testing.T) {
	t.Parallel()
	ca, dir := newCA(t, pki.Config{IssuerLife: time.Hour, LeafLife: 10 * time.Minute})
	oldRoot := ca.Root()
	newRoot := nextRootIn(t, dir, pki.RootOptions{TrustDomain: domain})
	cross, err := oldRoot.SignCross(newRoot.Certificate())
	if err != nil {
		t.Fatal(err)
	}
	authority := filepath.Join(dir, pki.AuthorityDir)
	for _, step := range []struct {
		name   string
		take   func(*pki.Issuers) error
		writes []string // in this order
		bundle string
	}{
		{"prepare", func(s *pki.Issuers) error { return s.PrepareRoot(newRoot.Certificate(), cross) }, []string{"cross.pem", "bundle.pem", "state.json"}, "old new"},
		{"activate", (*pki.Issuers).ActivateRoot, []string{"state.json"}, "old new"},
		{"retire", (*pki.Issuers).RetireRoot, []string{"issuers/0001.pem", "bundle.pem", "cross.pem", "state.json"}, "new"},
	} {
		before := filesOf(t, authority)
		if err := step.take(ca.Issuers()); err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		done := filesOf(t, authority)
		for n := 1; n < len(step.writes); n++ {
			crashed := filepath.Join(t.TempDir(), "authority")
			files := map[string]string{}
			for name, data := range before {
				files[name] = data
			}
			for _, name := range step.writes[:n] {
				if data, ok := done[name]; ok {
					files[name] = data
				} else {
					delete(files, name)
				}
			}
			writeFiles(t, crashed, files)
			where := step.name + " cut off after " + strings.Join(step.writes[:n], ", ")
			issuers, err := pki.OpenIssuers(crashed, nil)
			if err != nil {
				t.Fatalf("%s: %v", where, err)
			}
			issue(t, issuers, leafFor(t, "/service/ledger"))
			if err := step.take(issuers); err != nil {
				t.Fatalf("%s, repeated: %v", where, err)
			}
			issue(t, issuers, leafFor(t, "/service/ledger"))
			want := []any{ca.Issuers().Rotation().Phase, step.bundle, line(ca.Issuers().Status())}
			got := []any{issuers.Rotation().Phase, rootNames(issuers.Bundle(), oldRoot.Certificate(), newRoot.Certificate()), line(issuers.Status())}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s, repeated: phase, bundle, issuers (-want +got):\n%s", where, diff)
			}
		}
		if _, err := ca.Rotate(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAttacksOnTheReplacementOfARoot(t *testing.T) {
	t.Parallel()
	ca, dir := sharedCA(t)
	authority := copyOfAuthority(t)
	issuers, err := pki.OpenIssuers(authority, nil)
	if err != nil {
		t.Fatal(err)
	}
	fresh, other := newRoot(t, domain), newRoot(t, domain)
	cross, err := ca.Root().SignCross(fresh.Certificate())
	if err != nil {
		t.Fatal(err)
	}
	foreignCross, err := other.SignCross(fresh.Certificate())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		attack      string
		root, cross *x509.Certificate
		want        string
	}{
		{"an issuer presented as root", ca.Issuers().Status()[0].Certificate, nil, "not self-signed"},
		{"a leaf presented as root", issue(t, ca.Issuers(), leafFor(t, "/service/ledger"))[0], nil, "has a path"},
		{"a root of another trust domain", newRoot(t, spiffeOther).Certificate(), nil, "a trust domain keeps its name for life"},
		{"the root that is there", ca.Root().Certificate(), nil, "no other root"},
		{"a cross certificate of another root", fresh.Certificate(), foreignCross, "cross certificate"},
		{"a cross certificate for another root", other.Certificate(), cross, "cross certificate"},
	} {
		if err := issuers.PrepareRoot(c.root, c.cross); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want a refusal with %q", c.attack, err, c.want)
		}
	}
	if got := issuers.Rotation().Phase; got != pki.NoRotation {
		t.Fatalf("phase %q after refusals only", got)
	}
	if err := issuers.PrepareRoot(other.Certificate(), nil); err != nil { // the key of the old root is lost
		t.Fatal(err)
	}
	if err := issuers.ActivateRoot(); err == nil || !strings.Contains(err.Error(), "no issuer of the new root") {
		t.Errorf("activated without an issuer of the new root: %v", err)
	}
	// The prepared root turns out to be the wrong one: nothing is under it yet, so another one takes its place.
	if err := issuers.PrepareRoot(fresh.Certificate(), cross); err != nil {
		t.Fatalf("another root in place of the prepared one: %v", err)
	}
	if issuers.Bundle().HasX509Authority(other.Certificate()) || !issuers.Bundle().HasX509Authority(fresh.Certificate()) {
		t.Error("the bundle holds the root that was given up, or not the other one")
	}
	if _, err := issuers.ImportIssuer(signCSR(t, fresh, pendingCSR(t, issuers))); err != nil {
		t.Fatalf("an issuer of the new root: %v", err)
	}
	if err := issuers.PrepareRoot(other.Certificate(), nil); err == nil || !strings.Contains(err.Error(), "has issuer 2") {
		t.Errorf("another root in place of one that has an issuer: %v", err)
	}
	// Meanwhile an issuer of the old root is the newest of all; the one of the new root signs nevertheless.
	if _, err := issuers.ImportIssuer(signCSR(t, ca.Root(), pendingCSR(t, issuers))); err != nil {
		t.Fatal(err)
	}
	if err := issuers.ActivateRoot(); err != nil {
		t.Fatal(err)
	}
	if got, want := line(issuers.Status()), "1 RETIRING, 2 ACTIVE, 3 RETIRING"; got != want {
		t.Errorf("after the activation: %s, want %s", got, want)
	}
	if _, err := issuers.ImportIssuer(signCSR(t, ca.Root(), pendingCSR(t, issuers))); err == nil || !strings.Contains(err.Error(), "is of the old root") {
		t.Errorf("an issuer of the old root after the activation: %v", err)
	}
	// Without an issuer of the new root the one of the old signs on, and somebody has to act.
	if _, err := issuers.Revoke(2, "stolen"); err != nil {
		t.Fatal(err)
	}
	if got, want := line(issuers.Status()), "1 ACTIVE, 2 REVOKED, 3 RETIRING"; got != want {
		t.Errorf("after the only issuer of the new root was revoked: %s, want %s", got, want)
	}
	if by := issuers.ActBy(); by.When.After(time.Now()) || !strings.Contains(by.Reason, "issuer 1 of the old one") {
		t.Errorf("ActBy: %+v, want at once", by)
	}
	if err := issuers.RetireRoot(); err == nil || !strings.Contains(err.Error(), "no issuer of the new root") {
		t.Errorf("RetireRoot while only issuers of the old root sign: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, pki.NextRootDir)); err == nil {
		t.Error("the shared certificate authority was touched")
	}
}
