package pki_test

import (
	"crypto/x509"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"example.com/rolecall/pki"
)

func TestTheBundleHasANewNumberWithEachChangeAndNoLowerOne(t *testing.T) {
	t.Parallel()
	ca, _ := sharedCA(t)
	clock := newClock()
	born := time.Now()
	clock.Set(born)
	dir := copyOfAuthority(t)
	issuers, err := pki.OpenIssuers(dir, clock.Now)
	if err != nil {
		t.Fatal(err)
	}
	if got := issuers.Sequence(); got != 0 {
		t.Errorf("sequence %d before anybody gave one", got)
	}
	if err := issuers.BumpSequence(); err != nil {
		t.Fatal(err)
	}
	last := issuers.Sequence()
	if last != uint64(born.Unix()) {
		t.Errorf("first number %d, want the seconds since 1970, %d", last, born.Unix())
	}
	second := newRoot(t, domain).Certificate()
	two := []*x509.Certificate{ca.Root().Certificate(), second}
	writeRoots := func(roots []*x509.Certificate) func() error {
		return func() error {
			bundle, err := pki.NewBundle(roots)
			if err != nil {
				return err
			}
			return pki.WriteBundle(filepath.Join(dir, "bundle.pem"), bundle)
		}
	}
	reversed := slices.Clone(two)
	slices.Reverse(reversed)
	for _, step := range []struct {
		attack string
		at     time.Duration // of the clock
		change func() error
		grows  bool
	}{
		{"no change", time.Hour, func() error { return nil }, false},
		{"a root more", time.Hour, writeRoots(two), true},
		{"the same bundle in another order", time.Hour, writeRoots(reversed), false},
		{"the same bundle with one removed, wall clock -1 h", -time.Hour, writeRoots(two[:1]), true},
		{"an authority that starts again, wall clock -1 h", -time.Hour, issuers.BumpSequence, true},
		{"a revoked issuer", 2 * time.Hour, func() error { _, err := issuers.Revoke(1, "stolen"); return err }, true},
		{"revoked again", 2 * time.Hour, func() error { _, err := issuers.Revoke(1, "stolen"); return err }, false},
	} {
		clock.Set(born.Add(step.at))
		if err := step.change(); err != nil {
			t.Fatalf("%s: %v", step.attack, err)
		}
		if err := issuers.Refresh(); err != nil {
			t.Fatalf("%s: %v", step.attack, err)
		}
		if err := issuers.KeepSequence(); err != nil {
			t.Fatalf("%s: %v", step.attack, err)
		}
		got := issuers.Sequence()
		if got < last || got > last != step.grows {
			t.Errorf("%s: sequence %d after %d, want a higher one: %v", step.attack, got, last, step.grows)
		}
		last = got
	}

	// A backup of an hour ago is restored, and the authority starts: agents have seen a higher number than the backup's.
	if err := os.WriteFile(filepath.Join(dir, "state.json"), []byte(`{"version":1,"sequence":3}`), 0o600); err != nil {
		t.Fatal(err)
	}
	clock.Set(born.Add(3 * time.Hour))
	restored, err := pki.OpenIssuers(dir, clock.Now)
	if err != nil {
		t.Fatal(err)
	}
	if err := restored.BumpSequence(); err != nil || restored.Sequence() <= last {
		t.Errorf("after a backup was restored: sequence %d (error %v), agents have seen %d", restored.Sequence(), err, last)
	}
}
