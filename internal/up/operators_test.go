package up

import (
	"context"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"

	"example.com/rolecall/internal/mesh"
	"example.com/rolecall/pki"
)

func newCA(t *testing.T, dir string) *pki.CA {
	t.Helper()
	ca, _, err := pki.OpenOrCreate(dir, pki.Config{TrustDomain: spiffeid.RequireTrustDomainFromString("mesh.local")})
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

// files are what an operator's two files hold.
type files struct{ cert, key string }

func read(t *testing.T, dir mesh.Dir, name string) files {
	t.Helper()
	certPath, keyPath := dir.OperatorCert(name)
	if _, err := x509svid.Load(certPath, keyPath); err != nil {
		t.Fatalf("the files of %s do not go together: %v", name, err)
	}
	cert, err := os.ReadFile(certPath)
	if err != nil {
		t.Fatal(err)
	}
	key, err := os.ReadFile(keyPath)
	if err != nil {
		t.Fatal(err)
	}
	return files{string(cert), string(key)}
}

func TestOperatorsFilesAreReusedWhileTheyServeAndReplacedWhenTheyDoNot(t *testing.T) {
	t.Parallel()
	dir := newDir(t)
	issuers := newCA(t, dir.Path()).Issuers()
	start := func(life time.Duration) files {
		t.Helper()
		if err := newOperators(dir, issuers, life).start(); err != nil {
			t.Fatal(err)
		}
		return read(t, dir, "alice")
	}
	first := start(time.Hour)
	if again := start(time.Hour); again != first {
		t.Error("a certificate that has just been issued was replaced")
	}
	shorter := start(time.Minute)
	if shorter.cert == first.cert || shorter.key == first.key {
		t.Error("a certificate that lives longer than is asked for now, or its key, was kept")
	}
	issuers = newCA(t, t.TempDir()).Issuers()
	if other := start(time.Minute); other.cert == shorter.cert || other.key == shorter.key {
		t.Error("a certificate of another root, or its key, was kept")
	}
	certPath, _ := dir.OperatorCert("alice")
	if err := os.WriteFile(certPath, []byte("half a certif"), 0o600); err != nil {
		t.Fatal(err)
	}
	if repaired := start(time.Minute); !strings.Contains(repaired.cert, "BEGIN CERTIFICATE") {
		t.Errorf("a broken file was not repaired: %q", repaired.cert)
	}
}

func TestARenewalWhileTheMeshIsUpKeepsTheKeySoThatTheFilesAlwaysGoTogether(t *testing.T) {
	t.Parallel()
	dir := newDir(t)
	o := newOperators(dir, newCA(t, dir.Path()).Issuers(), pki.MinLeafLife)
	if err := o.start(); err != nil {
		t.Fatal(err)
	}
	before := read(t, dir, "bob")
	o.renew["bob"] = time.Now() // due
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	kept := make(chan struct{})
	go func() { defer close(kept); o.keepFresh(ctx, slog.New(slog.DiscardHandler)) }()
	began := time.Now()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(patience)
	for read(t, dir, "bob").cert == before.cert {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("the certificate was not renewed within %s", patience)
		}
	}
	t.Logf("renewed after %s", time.Since(began).Round(time.Millisecond))
	cancel()
	<-kept
	if after := read(t, dir, "bob"); after.key != before.key {
		t.Error("the key changed with the certificate")
	}
}
