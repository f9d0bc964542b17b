package pki_test

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"example.com/rolecall/pki"
)

// onDisk lists the generations in an authority's directory, "+key" behind those whose key is still there.
func onDisk(t *testing.T, authority string) string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(authority, "issuers", "*.pem"))
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimSuffix(filepath.Base(path), ".pem")
		if strings.Contains(string(data), "PRIVATE KEY") {
			name += "+key"
		}
		found = append(found, name)
	}
	return strings.Join(found, " ")
}

func TestAnotherProcessSignsWithTheIssuerThatWasRotatedIn(t *testing.T) {
	t.Parallel()
	clock := newClock()
	born := clock.Now()
	ca, dir := newCA(t, pki.Config{IssuerLife: time.Hour, LeafLife: 10 * time.Minute, Now: clock.Now})
	authority := filepath.Join(dir, pki.AuthorityDir)
	online, err := pki.OpenIssuers(authority, clock.Now)
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		after      time.Duration
		made       bool
		generation int
		disk       string
	}{
		{time.Minute, false, 1, "0001+key"},
		{40 * time.Minute, true, 1, "0001+key 0002+key"},
		{55 * time.Minute, false, 2, "0001+key 0002+key"},
		{61 * time.Minute, false, 2, "0001 0002+key"},
	} {
		clock.Set(born.Add(step.after))
		made, err := ca.Rotate()
		if err != nil {
			t.Fatalf("after %s: %v", step.after, err)
		}
		if err := online.Refresh(); err != nil {
			t.Fatalf("after %s: another process reads the issuers: %v", step.after, err)
		}
		leaf := leafFor(t, "/service/ledger")
		leaf.Life = 10 * time.Minute
		chain := issue(t, online, leaf)
		var signedBy int
		for _, status := range online.Status() {
			if status.Certificate.Equal(chain[1]) {
				signedBy = status.Generation
			}
		}
		got := []any{made, signedBy, onDisk(t, authority)}
		if diff := cmp.Diff([]any{step.made, step.generation, step.disk}, got); diff != "" {
			t.Errorf("after %s: made, generation that signs, on disk (-want +got):\n%s", step.after, diff)
		}
	}
}

func TestRetiredCertificatesDoNotPileUp(t *testing.T) {
	t.Parallel()
	ca, _ := sharedCA(t)
	authority := copyOfAuthority(t)
	for generation := 2; generation < 20; generation++ { // without their keys
		key, err := pki.NewKey()
		if err != nil {
			t.Fatal(err)
		}
		cert, err := ca.Root().SignIssuer(key.Public(), generation, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		data := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})
		if err := os.WriteFile(filepath.Join(authority, "issuers", fmt.Sprintf("%04d.pem", generation)), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	issuers, err := pki.OpenIssuers(authority, func() time.Time { return time.Now().Add(30 * 24 * time.Hour) })
	if err != nil {
		t.Fatal(err)
	}
	if err := issuers.Retire(); err != nil {
		t.Fatal(err)
	}
	want := "0004 0005 0006 0007 0008 0009 0010 0011 0012 0013 0014 0015 0016 0017 0018 0019"
	if got := onDisk(t, authority); got != want {
		t.Errorf("left on disk: %s, want the latest 16: %s", got, want)
	}
}

func TestABrokenFileLeavesTheLastIssuersInForce(t *testing.T) {
	t.Parallel()
	authority := copyOfAuthority(t)
	issuers, err := pki.OpenIssuers(authority, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(authority, "issuers", "0002.pem"), []byte("half a fi"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := issuers.Refresh(); err == nil || !strings.Contains(err.Error(), "0002.pem") {
		t.Errorf("Refresh: %v, want an error that names the file", err)
	}
	issue(t, issuers, leafFor(t, "/service/ledger"))
}

func TestAnIssuerThatNoRootOfTheBundleSignedIsRefused(t *testing.T) {
	t.Parallel()
	authority := copyOfAuthority(t)
	foreign, err := pki.CreateRoot(filepath.Join(t.TempDir(), "root"), []byte("passphrase"), pki.RootOptions{TrustDomain: domain})
	if err != nil {
		t.Fatal(err)
	}
	bundle, err := pki.NewBundle([]*x509.Certificate{foreign.Certificate()})
	if err != nil {
		t.Fatal(err)
	}
	if err := pki.WriteBundle(filepath.Join(authority, "bundle.pem"), bundle); err != nil {
		t.Fatal(err)
	}
	if _, err := pki.OpenIssuers(authority, nil); err == nil || !strings.Contains(err.Error(), "no root of the bundle signed this issuer") {
		t.Errorf("OpenIssuers: %v, want a refusal", err)
	}
}

func TestKeepRotatedStopsWithItsContext(t *testing.T) {
	t.Parallel()
	ca, _ := sharedCA(t)
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { ca.KeepRotated(ctx, slog.New(slog.DiscardHandler)) })
	cancel()
	running.Wait()
}
