// Package rolecalltest is the kit to test services that are guarded by rolecall: a private CA in memory, and sources of
// certificates that a guard takes in place of a Workload API; Users, a tokens service that gives a token to whoever a test
// names; and Keys, a keys service, so that requests are signed and verified.
//
//	ca := rolecalltest.NewCA(t, "mesh.local")
//	guard, err := interceptors.New(ca.Source("/service/ledger"), interceptors.BindingsYAML(roles))
//
// Nothing here is for production: keys are never encrypted, and a CA signs whatever a test asks of it.
package rolecalltest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"net/url"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// CA is a root with its key, in memory. Safe for concurrent use.
type CA struct {
	t           testing.TB
	trustDomain spiffeid.TrustDomain
	root        *x509.Certificate
	key         crypto.Signer
}

// NewCA makes a root for the trust domain, valid for a day. It ends the test if the trust domain is not a valid name.
func NewCA(t testing.TB, trustDomain string) *CA {
	t.Helper()
	td, err := spiffeid.TrustDomainFromString(trustDomain)
	if err != nil {
		t.Fatalf("trust domain %q: %v", trustDomain, err)
	}
	ca := &CA{t: t, trustDomain: td, key: newKey(t)}
	template := &x509.Certificate{
		SerialNumber:          newSerial(t),
		Subject:               pkix.Name{CommonName: "rolecalltest root " + trustDomain},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(24 * time.Hour),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		URIs:                  []*url.URL{td.ID().URL()},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, ca.key.Public(), ca.key)
	if err != nil {
		t.Fatalf("sign root: %v", err)
	}
	ca.root = mustParse(t, der)
	return ca
}

// TrustDomain returns the trust domain that the CA was made for.
func (ca *CA) TrustDomain() spiffeid.TrustDomain { return ca.trustDomain }

// Root returns the root's certificate.
func (ca *CA) Root() *x509.Certificate { return ca.root }

// Bundle returns a new bundle that holds the root alone.
func (ca *CA) Bundle() *x509bundle.Bundle {
	return x509bundle.FromX509Authorities(ca.trustDomain, []*x509.Certificate{ca.root})
}

// ID returns the SPIFFE ID of path, "/service/ledger", in the CA's trust domain.
func (ca *CA) ID(path string) spiffeid.ID {
	ca.t.Helper()
	id, err := spiffeid.FromPath(ca.trustDomain, path)
	if err != nil {
		ca.t.Fatalf("SPIFFE ID of %q: %v", path, err)
	}
	return id
}

// Issue signs a leaf for path with an hour of life, after every change has had its turn at the template. The changes
// make certificates that a real CA would refuse to sign.
func (ca *CA) Issue(path string, changes ...func(*x509.Certificate)) (*x509.Certificate, crypto.Signer) {
	ca.t.Helper()
	return ca.IssueUnder(ca.root, ca.key, path, changes...)
}

// IssueUnder is Issue with another parent: an intermediate, or a leaf that has no right to sign.
func (ca *CA) IssueUnder(parent *x509.Certificate, parentKey crypto.Signer, path string, changes ...func(*x509.Certificate)) (*x509.Certificate, crypto.Signer) {
	ca.t.Helper()
	key := newKey(ca.t)
	template := &x509.Certificate{
		SerialNumber:          newSerial(ca.t),
		NotBefore:             time.Now().Add(-30 * time.Second),
		NotAfter:              time.Now().Add(time.Hour),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
		DNSNames:              []string{"localhost"},
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}
	if path != "" {
		template.URIs = []*url.URL{ca.ID(path).URL()}
	}
	for _, change := range changes {
		change(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), parentKey)
	if err != nil {
		ca.t.Fatalf("sign leaf for %q: %v", path, err)
	}
	return mustParse(ca.t, der), key
}

// Intermediate signs a CA certificate below the root, after every change has had its turn at the template.
func (ca *CA) Intermediate(changes ...func(*x509.Certificate)) (*x509.Certificate, crypto.Signer) {
	ca.t.Helper()
	return ca.Issue("", append([]func(*x509.Certificate){func(c *x509.Certificate) {
		c.Subject = pkix.Name{CommonName: "rolecalltest issuer " + c.SerialNumber.String()}
		c.IsCA, c.MaxPathLenZero = true, true
		c.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
		c.ExtKeyUsage, c.DNSNames, c.IPAddresses = nil, nil, nil
		c.URIs = []*url.URL{ca.trustDomain.ID().URL()}
	}}, changes...)...)
}

func newKey(t testing.TB) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatalf("generate key: %v", err)
	}
	return key
}

func newSerial(t testing.TB) *big.Int {
	t.Helper()
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		t.Fatalf("generate serial: %v", err)
	}
	return serial
}

func mustParse(t testing.TB, der []byte) *x509.Certificate {
	t.Helper()
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatalf("parse certificate: %v", err)
	}
	return cert
}
