package identity

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"net/url"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
)

var (
	mesh   = spiffeid.RequireTrustDomainFromString("mesh.local")
	ledger = spiffeid.RequireFromPath(mesh, "/service/ledger")
)

// holder is a certificate and its key.
type holder struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	return key
}

// newRoot makes a root with two days of life.
func newRoot(t testing.TB, name string) holder {
	t.Helper()
	key := newKey(t)
	template := caTemplate(t, name, time.Now().Add(48*time.Hour))
	return holder{sign(t, template, holder{template, key}, key.Public()), key}
}

// issuer certifies a key under the name "issuer": several roots may do so for the same key.
func (h holder) issuer(t testing.TB, key *ecdsa.PrivateKey, end time.Time) holder {
	t.Helper()
	return holder{sign(t, caTemplate(t, "issuer", end), h, key.Public()), key}
}

// leaf certifies a key of its own for the ID.
func (h holder) leaf(t testing.TB, id spiffeid.ID, end time.Time) holder {
	t.Helper()
	key := newKey(t)
	return holder{sign(t, &x509.Certificate{
		SerialNumber: serial(t), NotBefore: time.Now().Add(-time.Minute), NotAfter: end, URIs: []*url.URL{id.URL()},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
	}, h, key.Public()), key}
}

func caTemplate(t testing.TB, name string, end time.Time) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: serial(t), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: end,
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
}

func sign(t testing.TB, template *x509.Certificate, parent holder, public any) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent.cert, public, parent.key)
	must(t, err)
	cert, err := x509.ParseCertificate(der)
	must(t, err)
	return cert
}

func serial(t testing.TB) *big.Int {
	t.Helper()
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	must(t, err)
	return n
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// source is a certificate and the bundle of its own trust domain.
type source struct {
	own    holder
	id     spiffeid.ID
	bundle *x509bundle.Bundle
}

func (s source) GetX509SVID() (*x509svid.SVID, error) {
	return &x509svid.SVID{ID: s.id, Certificates: []*x509.Certificate{s.own.cert}, PrivateKey: s.own.key}, nil
}

func (s source) GetX509BundleForTrustDomain(td spiffeid.TrustDomain) (*x509bundle.Bundle, error) {
	if td != mesh {
		return nil, errors.New("no bundle")
	}
	return s.bundle, nil
}

// eventually waits up to ten seconds and says how long it took.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	start := time.Now()
	for tick := time.NewTicker(5 * time.Millisecond); ; <-tick.C {
		if condition() {
			t.Logf("%s after %s", what, time.Since(start).Round(time.Millisecond))
			return
		}
		if time.Since(start) > 10*time.Second {
			t.Fatalf("no %s within 10 s", what)
		}
	}
}
