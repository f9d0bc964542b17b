package interceptors_test

import (
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"net/url"
	"testing"
	"time"

	"example.com/rolecall/rolecalltest"
)

// leaf is an attack with a leaf that our CA signed, after the changes.
func leaf(changes ...func(*x509.Certificate)) func(*testing.T, *mesh) error {
	return func(t *testing.T, m *mesh) error { return m.shake(t, m.cert(m.ca.Issue(reader, changes...)), nil) }
}

func uri(ids ...string) func(*x509.Certificate) {
	return func(c *x509.Certificate) {
		c.URIs = nil
		for _, id := range ids {
			u, err := url.Parse(id)
			if err != nil {
				panic(err)
			}
			c.URIs = append(c.URIs, u)
		}
	}
}

// rawURIs writes the names as they are, past the spelling that net/url would choose.
func rawURIs(ids ...string) func(*x509.Certificate) {
	return func(c *x509.Certificate) {
		var names []asn1.RawValue
		for _, id := range ids {
			names = append(names, asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 6, Bytes: []byte(id)})
		}
		value, err := asn1.Marshal(names)
		if err != nil {
			panic(err)
		}
		c.URIs, c.DNSNames, c.IPAddresses = nil, nil, nil
		c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Value: value}}
	}
}

// short makes a certificate that soon expires, but not before a slow machine has connected with it.
func short(c *x509.Certificate) { c.NotAfter = time.Now().Add(15 * time.Second).Truncate(time.Second) }

// certOver returns the reader's certificate over a key of the test's choice. It is signed by an intermediate, since the
// CA signs over keys of its own only.
func (m *mesh) certOver(t *testing.T, key crypto.Signer) *tls.Certificate {
	t.Helper()
	issuer, issuerKey := m.ca.Intermediate()
	template, _ := m.ca.Issue(reader)
	der, err := x509.CreateCertificate(rand.Reader, template, issuer, key.Public(), issuerKey)
	must(t, err)
	cert, err := x509.ParseCertificate(der)
	must(t, err)
	return m.cert(cert, key, issuer)
}

func leafOf(t *testing.T, source *rolecalltest.Source) *x509.Certificate {
	t.Helper()
	svid, err := source.GetX509SVID()
	must(t, err)
	return svid.Certificates[0]
}

// keyOf returns how the bindings name the key of a certificate.
func keyOf(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	return hex.EncodeToString(sum[:])
}

func notBackdated(c *x509.Certificate) { c.NotBefore = time.Now().Truncate(time.Second) }
