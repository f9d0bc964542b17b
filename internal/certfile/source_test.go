package certfile_test

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"example.com/rolecall/internal/certfile"
	"example.com/rolecall/rolecalltest"
)

type files struct{ cert, key, bundle string }

func newFiles(t *testing.T, ca *rolecalltest.CA) files {
	t.Helper()
	dir := t.TempDir()
	f := files{filepath.Join(dir, "a.crt"), filepath.Join(dir, "a.key"), filepath.Join(dir, "bundle.pem")}
	f.issue(t, ca, time.Unix(1_000_000_000, 0))
	write(t, f.bundle, "CERTIFICATE", ca.Root().Raw)
	return f
}

func (f files) issue(t *testing.T, ca *rolecalltest.CA, modified time.Time) *x509.Certificate {
	t.Helper()
	cert, key := ca.Issue("/operator/alice")
	write(t, f.cert, "CERTIFICATE", cert.Raw)
	write(t, f.key, "PRIVATE KEY", pkcs8(t, key))
	for _, path := range []string{f.cert, f.key} {
		if err := os.Chtimes(path, modified, modified); err != nil {
			t.Fatal(err)
		}
	}
	return cert
}

func pkcs8(t *testing.T, key crypto.Signer) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func write(t *testing.T, path, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}

func serial(t *testing.T, s *certfile.Source) string {
	t.Helper()
	svid, err := s.GetX509SVID()
	if err != nil {
		t.Fatal(err)
	}
	return svid.Certificates[0].SerialNumber.Text(16)
}

func TestARenewedCertificateIsReadAgainAndABrokenOneIsNot(t *testing.T) {
	t.Parallel()
	ca := rolecalltest.NewCA(t, "mesh.local")
	f := newFiles(t, ca)
	source, err := certfile.Open(f.cert, f.key, f.bundle)
	if err != nil {
		t.Fatal(err)
	}
	renewed := f.issue(t, ca, time.Unix(1_000_000_100, 0)).SerialNumber.Text(16)
	if got := serial(t, source); got != renewed {
		t.Errorf("serial after renewal %s, want %s", got, renewed)
	}

	if err := os.WriteFile(f.cert, []byte("half a certif"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := serial(t, source); got != renewed {
		t.Errorf("serial while the file is broken %s, want the last good one %s", got, renewed)
	}
	if err := os.Remove(f.cert); err != nil {
		t.Fatal(err)
	}
	if got := serial(t, source); got != renewed {
		t.Errorf("serial while the file is away %s, want the last good one %s", got, renewed)
	}
	again := f.issue(t, ca, time.Unix(1_000_000_200, 0)).SerialNumber.Text(16)
	if got := serial(t, source); got != again {
		t.Errorf("serial after repair %s, want %s", got, again)
	}
}

func TestOnlyTheOwnTrustDomainHasRoots(t *testing.T) {
	t.Parallel()
	ca := rolecalltest.NewCA(t, "mesh.local")
	f := newFiles(t, ca)
	source, err := certfile.Open(f.cert, f.key, f.bundle)
	if err != nil {
		t.Fatal(err)
	}
	bundle, err := source.GetX509BundleForTrustDomain(ca.TrustDomain())
	if err != nil || !bundle.HasX509Authority(ca.Root()) {
		t.Errorf("own trust domain: %v, %v; want the root", bundle, err)
	}
	if b, err := source.GetX509BundleForTrustDomain(spiffeid.RequireTrustDomainFromString("elsewhere.test")); err == nil {
		t.Errorf("another trust domain: %v, want an error", b)
	}
}

func TestOpenNamesTheFileThatIsWrong(t *testing.T) {
	t.Parallel()
	tests := map[string]func(files) string{
		"certificate missing":       func(f files) string { os.Remove(f.cert); return f.cert },
		"key missing":               func(f files) string { os.Remove(f.key); return f.key },
		"bundle missing":            func(f files) string { os.Remove(f.bundle); return f.bundle },
		"bundle empty":              func(f files) string { os.Truncate(f.bundle, 0); return f.bundle },
		"certificate is no PEM":     func(f files) string { os.WriteFile(f.cert, []byte("x"), 0o600); return f.cert },
		"key and bundle mixed up":   func(f files) string { os.Rename(f.bundle, f.key); return f.bundle },
		"key of another and no one": func(f files) string { os.Truncate(f.key, 10); return f.key },
	}
	for name, spoil := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFiles(t, rolecalltest.NewCA(t, "mesh.local"))
			want := spoil(f)
			if _, err := certfile.Open(f.cert, f.key, f.bundle); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("open: %v, want an error that names %s", err, want)
			}
		})
	}
}
