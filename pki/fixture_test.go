package pki_test

import (
	"crypto/x509"
	"encoding/pem"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"example.com/rolecall/pki"
)

var domain = spiffeid.RequireTrustDomainFromString("mesh.local")

// fakeClock is a wall clock that a test sets.
type fakeClock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *fakeClock {
	return &fakeClock{now: time.Date(2031, 5, 3, 10, 0, 0, 250_000_000, time.UTC)}
}

func (c *fakeClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *fakeClock) Set(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = t
}

// createCA makes a certificate authority in a directory of its own.
func createCA(t *testing.T, c pki.Config) (*pki.CA, string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "ca")
	if c.TrustDomain.IsZero() {
		c.TrustDomain = domain
	}
	ca, created, err := pki.OpenOrCreate(dir, c)
	if err != nil || !created {
		t.Fatalf("OpenOrCreate: created %v, error %v", created, err)
	}
	return ca, dir
}

// newCA opens a certificate authority in a directory of its own, which nobody has used: a copy of one that was made for all
// tests that want the same, with the same keys.
func newCA(t *testing.T, c pki.Config) (*pki.CA, string) {
	t.Helper()
	if c.TrustDomain.IsZero() {
		c.TrustDomain = domain
	}
	dir := filepath.Join(t.TempDir(), "ca")
	writeFiles(t, dir, templateOf(t, c))
	ca, created, err := pki.OpenOrCreate(dir, c)
	if err != nil || created {
		t.Fatalf("OpenOrCreate of a copy: created %v, error %v", created, err)
	}
	return ca, dir
}

// TestMain removes the shared certificate authority.
func TestMain(m *testing.M) {
	code := m.Run()
	if err := os.RemoveAll(shared.dir); err != nil {
		panic(err)
	}
	os.Exit(code)
}

// shared is one certificate authority for all tests that change nothing on it.
var shared struct {
	sync.Once
	ca  *pki.CA
	dir string
	err error
}

// sharedCA returns the certificate authority that tests only read and sign with.
func sharedCA(t *testing.T) (*pki.CA, string) {
	t.Helper()
	shared.Do(func() {
		files := templateOf(t, pki.Config{TrustDomain: domain})
		if shared.dir, shared.err = os.MkdirTemp("", "rolecall-pki-"); shared.err == nil {
			writeFiles(t, shared.dir, files)
			shared.ca, _, shared.err = pki.OpenOrCreate(shared.dir, pki.Config{TrustDomain: domain})
		}
	})
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.ca, shared.dir
}

// copyOfAuthority copies the online half of the shared certificate authority, for a test that changes its files.
func copyOfAuthority(t *testing.T) string {
	t.Helper()
	_, dir := sharedCA(t)
	copied := filepath.Join(t.TempDir(), "authority")
	if err := os.MkdirAll(filepath.Join(copied, "issuers"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"bundle.pem", "credential", "issuers/0001.pem"} {
		data, err := os.ReadFile(filepath.Join(dir, pki.AuthorityDir, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(copied, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return copied
}

// leafFor fills in a leaf for a new key.
func leafFor(t *testing.T, path string) pki.Leaf {
	t.Helper()
	key, err := pki.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	return pki.Leaf{ID: spiffeid.RequireFromPath(domain, path), PublicKey: key.Public(),
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}}
}

func issue(t *testing.T, issuers *pki.Issuers, leaf pki.Leaf) []*x509.Certificate {
	t.Helper()
	chain, err := issuers.Issue(leaf)
	if err != nil {
		t.Fatalf("Issue(%s): %v", leaf.ID, err)
	}
	return chain
}

// write writes PEM blocks of certificates to a file and returns its path.
func write(t *testing.T, name string, certs ...*x509.Certificate) string {
	t.Helper()
	var data []byte
	for _, cert := range certs {
		data = append(data, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})...)
	}
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// spiffeOther is a trust domain that is not ours.
var spiffeOther = spiffeid.RequireTrustDomainFromString("other.local")

// filesOf reads all files below dir, by their path there.
func filesOf(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		files[filepath.ToSlash(name)] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// writeFiles writes what filesOf read, mode 0600.
func writeFiles(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, data := range files {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
