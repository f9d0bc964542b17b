package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

func TestAttacksOnTheOfflineSigner(t *testing.T) {
	t.Parallel()
	root, err := newRoot(RootOptions{TrustDomain: testDomain})
	must(t, err)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	must(t, err)
	rsa2048, err := rsa.GenerateKey(rand.Reader, 2048)
	must(t, err)
	good := func() *x509.CertificateRequest {
		return &x509.CertificateRequest{Subject: pkix.Name{Organization: []string{organization}, CommonName: "issuer 7"},
			URIs: []*url.URL{testDomain.ID().URL()}}
	}
	request := func(key crypto.Signer, change func(*x509.CertificateRequest)) []byte {
		template := good()
		change(template)
		der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
		must(t, err)
		return der
	}
	nothing := func(*x509.CertificateRequest) {}
	ca, err := asn1.Marshal(struct{ CA bool }{true})
	must(t, err)
	tampered := request(key, nothing)
	tampered[len(tampered)-1] ^= 1
	for _, c := range []struct {
		attack string
		csr    []byte
		want   string
	}{
		{"a bad self-signature", tampered, "not signed by its own key"},
		{"an RSA key", request(rsa2048, nothing), "must be ECDSA on P-256"},
		{"P-224", request(p224, nothing), "must be ECDSA on P-256"},
		{"not a CSR", []byte("hello"), "not a PKCS#10 request"},
		{"1 MB", request(key, func(r *x509.CertificateRequest) { r.Subject.Organization = []string{strings.Repeat("x", 1<<20)} }), "16384 at most"},
		{"an extra extension (cA:TRUE)", request(key, func(r *x509.CertificateRequest) {
			r.ExtraExtensions = []pkix.Extension{{Id: oidBasicConstraints, Critical: true, Value: ca}}
		}), "asks for extension 2.5.29.19"},
		{"another trust domain", request(key, func(r *x509.CertificateRequest) {
			r.URIs = []*url.URL{spiffeid.RequireTrustDomainFromString("other.local").ID().URL()}
		}), "an issuer of the trust domain other.local, not of"},
		{"a workload's CSR", request(key, func(r *x509.CertificateRequest) { r.Subject = pkix.Name{} }), "is not that of an issuer's request"},
		{"a workload's ID", request(key, func(r *x509.CertificateRequest) {
			r.URIs = []*url.URL{spiffeid.RequireFromPath(testDomain, "/service/ledger").URL()}
		}), "is a workload, not a trust domain"},
		{"two trust domains", request(key, func(r *x509.CertificateRequest) { r.URIs = append(r.URIs, r.URIs[0]) }), "names one trust domain"},
		{"a DNS name", request(key, func(r *x509.CertificateRequest) { r.DNSNames = []string{"ca.local"} }), "names one trust domain"},
		{"a CN of someone else", request(key, func(r *x509.CertificateRequest) { r.Subject.CommonName = "root" }), "is not that of an issuer's request"},
		{"a second organization", request(key, func(r *x509.CertificateRequest) { r.Subject.Organization = []string{"rolecall", "eve"} }), "is not that of an issuer's request"},
		{"generation 0", request(key, func(r *x509.CertificateRequest) { r.Subject.CommonName = "issuer 0" }), "is not that of an issuer's request"},
		{"a generation with a sign", request(key, func(r *x509.CertificateRequest) { r.Subject.CommonName = "issuer +7" }), "is not that of an issuer's request"},
	} {
		t.Run(c.attack, func(t *testing.T) {
			t.Parallel()
			if _, err := root.SignIssuerCSR(c.csr, time.Hour); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("SignIssuerCSR: %v, want a refusal with %q", err, c.want)
			}
		})
	}

	cert, err := root.SignIssuerCSR(request(key, nothing), 0)
	must(t, err)
	if got := cert.NotAfter.Sub(IssuedAt(cert)); (got-DefaultIssuerLife).Abs() > 2*time.Second || !strings.HasPrefix(cert.Subject.CommonName, "issuer 7 ") {
		t.Errorf("signed %s for %s, want issuer 7 for a week", cert.Subject, got)
	}
	for _, life := range []time.Duration{time.Minute, -time.Hour, 91 * 24 * time.Hour} {
		if _, err := root.SignIssuerCSR(request(key, nothing), life); err == nil || !strings.Contains(err.Error(), "are accepted") {
			t.Errorf("a life of %s: %v, want a refusal", life, err)
		}
	}
}

func TestARootOutsideOfItsTimeSignsNoIssuer(t *testing.T) {
	t.Parallel()
	now := time.Date(2031, 5, 3, 10, 0, 0, 0, time.UTC)
	root, err := newRoot(RootOptions{TrustDomain: testDomain, Life: time.Hour, Now: func() time.Time { return now }})
	must(t, err)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	csr, err := newIssuerCSR(key, 1, testDomain)
	must(t, err)
	for _, c := range []struct {
		attack string
		now    time.Time
		want   string
	}{
		{"expired root", now.Add(2 * time.Hour), "a new root is needed"},
		{"wall clock -1 h", now.Add(-time.Hour), "check the clock"},
	} {
		root.now = func() time.Time { return c.now }
		if _, err := root.SignIssuerCSR(csr, time.Hour); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want a refusal with %q", c.attack, err, c.want)
		}
	}
}
