package pki

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

func workload(t *testing.T, path string) spiffeid.ID {
	t.Helper()
	id, err := spiffeid.FromPath(testDomain, path)
	must(t, err)
	return id
}

// memoryRoot makes a root that is on no disk: encrypting its key takes long on purpose.
func memoryRoot(t *testing.T, o RootOptions) *Root {
	t.Helper()
	if o.TrustDomain.IsZero() {
		o.TrustDomain = testDomain
	}
	root, err := newRoot(o)
	must(t, err)
	return root
}

// memoryIssuers is an authority with one issuer, none of whose keys was ever encrypted. It has a directory to write to.
func memoryIssuers(t *testing.T, now func() time.Time) *Issuers {
	t.Helper()
	root := memoryRoot(t, RootOptions{Now: now})
	issuer, err := root.newIssuer(1, DefaultIssuerLife)
	must(t, err)
	state := &issuersState{stored: &storedState{Version: stateVersion}, bundle: bundleOf(root), roots: pool(root.cert), jwt: jwtState{files: map[string]fileStamp{}}}
	must(t, issuer.place("0001.pem", state))
	state.issuers = []*Issuer{issuer}
	dir := t.TempDir()
	s := &Issuers{dir: dir, credential: filepath.Join(dir, credentialFile), now: clock(now), record: openRecord(dir)}
	must(t, os.WriteFile(s.credential, []byte("open sesame, open sesame\n"), 0o600))
	s.state.Store(state)
	return s
}

// withJWTKeyInMemory gives an authority a JWT key that is on no disk.
func withJWTKeyInMemory(t *testing.T, s *Issuers) *Issuers {
	t.Helper()
	next := *s.state.Load()
	key, err := s.newJWTKey(&next)
	must(t, err)
	next.jwt.keys = append(next.jwt.keys, key)
	s.state.Store(&next)
	return s
}

// authorityAt makes an authority's directory with one issuer at a moment, and forgets its root.
func authorityAt(t *testing.T, now time.Time) string {
	t.Helper()
	s := memoryIssuers(t, func() time.Time { return now })
	issuer := s.state.Load().issuers[0]
	must(t, os.MkdirAll(filepath.Join(s.dir, issuersDir), 0o700))
	must(t, WriteBundle(filepath.Join(s.dir, bundleFile), s.Bundle()))
	key, err := s.sealKey(issuer.key)
	must(t, err)
	must(t, os.WriteFile(s.issuerPath(1), append(encodeCertificates(issuer.Certificate), key...), 0o600))
	return s.dir
}

// needOpenSSL skips a test where openssl is not installed; CI must have it.
func needOpenSSL(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("openssl"); err == nil {
		return
	}
	if os.Getenv("CI") == "true" {
		t.Fatal("openssl is not installed, which CI must have")
	}
	t.Skip("openssl is not installed")
}
