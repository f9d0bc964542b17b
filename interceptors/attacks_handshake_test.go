package interceptors_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"example.com/rolecall/rolecalltest"
)

var handshakeAttacks = []attack{
	{name: "no client certificate", verdict: handshake, audit: "no_certificate", run: func(t *testing.T, m *mesh) error {
		return m.shake(t, nil, nil)
	}},
	{name: "plaintext", verdict: handshake, audit: "not_tls", run: func(t *testing.T, m *mesh) error {
		conn := m.tcp(t)
		if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
			return err
		}
		_, err := io.ReadAll(conn)
		if err == nil {
			err = io.EOF
		}
		return err
	}},
	{name: "a TLS 1.2 client", verdict: handshake, audit: "tls_version", run: func(t *testing.T, m *mesh) error {
		return m.shake(t, m.cert(m.ca.Issue(reader)), func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 })
	}},
	{name: "no ALPN", verdict: handshake, audit: "alpn", run: func(t *testing.T, m *mesh) error {
		return m.shake(t, m.cert(m.ca.Issue(reader)), func(c *tls.Config) { c.NextProtos = nil })
	}},
	{name: "ALPN without h2", verdict: handshake, audit: "alpn", run: func(t *testing.T, m *mesh) error {
		return m.shake(t, m.cert(m.ca.Issue(reader)), func(c *tls.Config) { c.NextProtos = []string{"http/1.1"} })
	}},
	{name: "a certificate of another CA", verdict: handshake, audit: "untrusted", run: func(t *testing.T, m *mesh) error {
		return m.shake(t, m.cert(rolecalltest.NewCA(t, "mesh.local").Issue(reader)), nil)
	}},
	{name: "another trust domain", verdict: handshake, audit: "trust_domain", run: func(t *testing.T, m *mesh) error {
		return m.shake(t, m.cert(rolecalltest.NewCA(t, "other.local").Issue(reader)), nil)
	}},
	{name: "another trust domain signed by our CA", verdict: handshake, audit: "trust_domain", run: leaf(uri("spiffe://other.local/service/reader"))},
	{name: "sub-domain of the trust domain", verdict: handshake, audit: "trust_domain", run: leaf(uri("spiffe://a.mesh.local/service/reader"))},
	{name: "port in the trust domain", verdict: handshake, audit: "invalid_certificate", run: leaf(uri("spiffe://mesh.local:443/service/reader"))},
	{name: "userinfo in the trust domain", verdict: handshake, audit: "invalid_certificate", run: leaf(uri("spiffe://root@mesh.local/service/reader"))},
	{name: "upper case in the trust domain", verdict: handshake, audit: "invalid_certificate", run: leaf(uri("spiffe://MESH.local/service/reader"))},
	{name: "upper case in the scheme", verdict: handshake, audit: "certificate_profile", run: leaf(rawURIs("SPIFFE://mesh.local/service/reader"))},
	{name: "percent-encoding in the path", verdict: handshake, audit: "invalid_certificate", run: leaf(rawURIs("spiffe://mesh.local/service%2Freader"))},
	{name: "query after the ID", verdict: handshake, audit: "invalid_certificate", run: leaf(rawURIs("spiffe://mesh.local/service/reader?a=b"))},
	{name: "two URI SANs", verdict: handshake, audit: "invalid_certificate", run: leaf(uri("spiffe://mesh.local/service/reader", "spiffe://mesh.local/service/writer"))},
	{name: "a URI SAN twice", verdict: handshake, audit: "invalid_certificate", run: leaf(uri("spiffe://mesh.local/service/reader", "spiffe://mesh.local/service/reader"))},
	{name: "no URI SAN", verdict: handshake, audit: "invalid_certificate", run: leaf(uri())},
	{name: "path-less ID", verdict: handshake, audit: "certificate_profile", run: leaf(uri("spiffe://mesh.local"))},
	{name: "CN used as identity", verdict: handshake, audit: "invalid_certificate", run: leaf(uri(), func(c *x509.Certificate) {
		c.Subject = pkix.Name{CommonName: "spiffe://mesh.local/service/reader"}
	})},
	{name: "DNS name used as identity", verdict: handshake, audit: "invalid_certificate", run: leaf(uri(), func(c *x509.Certificate) {
		c.DNSNames = []string{"reader.mesh.local"}
	})},
	{name: "CA flag", verdict: handshake, audit: "invalid_certificate", run: leaf(func(c *x509.Certificate) { c.IsCA = true })},
	{name: "keyCertSign", verdict: handshake, audit: "invalid_certificate", run: leaf(func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageCertSign })},
	{name: "cRLSign", verdict: handshake, audit: "invalid_certificate", run: leaf(func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageCRLSign })},
	{name: "no key usage", verdict: handshake, audit: "certificate_profile", run: leaf(func(c *x509.Certificate) { c.KeyUsage = 0 })},
	{name: "key usage without digitalSignature", verdict: handshake, audit: "certificate_profile", run: leaf(func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyAgreement })},
	{name: "EKU server only", verdict: handshake, audit: "certificate_profile", run: leaf(func(c *x509.Certificate) {
		c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	})},
	{name: "no EKU", verdict: handshake, audit: "certificate_profile", run: leaf(func(c *x509.Certificate) { c.ExtKeyUsage = nil })},
	{name: "expired certificate", verdict: handshake, audit: "expired", run: leaf(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Second) })},
	{name: "certificate that is not valid yet", verdict: handshake, audit: "expired", run: leaf(func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Minute) })},
	{name: "leaf signed by a leaf", verdict: handshake, audit: "untrusted", run: func(t *testing.T, m *mesh) error {
		parent, parentKey := m.ca.Issue(writer)
		cert, key := m.ca.IssueUnder(parent, parentKey, reader)
		return m.shake(t, m.cert(cert, key, parent), nil)
	}},
	{name: "leaf signed by a leaf that claims to be a CA by its chain", verdict: handshake, audit: "untrusted", run: func(t *testing.T, m *mesh) error {
		parent, parentKey := m.ca.Intermediate(func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid, c.MaxPathLenZero = false, true, false })
		cert, key := m.ca.IssueUnder(parent, parentKey, reader)
		return m.shake(t, m.cert(cert, key, parent), nil)
	}},
	{name: "a chain of seven certificates", verdict: handshake, audit: "certificate_profile", run: func(t *testing.T, m *mesh) error {
		cert, key := m.ca.Issue(reader)
		return m.shake(t, m.cert(cert, key, cert, cert, cert, cert, cert, cert), nil)
	}},
	{name: "a key that is not the certificate's", verdict: handshake, audit: "invalid_certificate", run: func(t *testing.T, m *mesh) error {
		cert, _ := m.ca.Issue(reader)
		_, key := m.ca.Issue(reader)
		return m.shake(t, m.cert(cert, key), nil)
	}},
	{name: "a key of RSA 1024 bits", verdict: handshake, audit: "certificate_profile", run: func(t *testing.T, m *mesh) error {
		key, err := rsa.GenerateKey(rand.Reader, 1024)
		must(t, err)
		return m.shake(t, m.certOver(t, key), nil)
	}},
	{name: "a key on the curve P-224", verdict: handshake, audit: "certificate_profile", run: func(t *testing.T, m *mesh) error {
		key, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
		must(t, err)
		// TLS 1.3 cannot sign with it: the client fails by itself once it has shown the certificate.
		if err := m.shake(t, m.certOver(t, key), nil); err == nil {
			return nil
		}
		return io.EOF
	}},
	{name: "a client that leaves when it has seen the server's certificate", verdict: handshake, audit: "peer_gone", run: func(t *testing.T, m *mesh) error {
		raw := m.tcp(t)
		conn := tls.Client(raw, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}, VerifyConnection: func(tls.ConnectionState) error {
			_ = raw.Close()
			return io.EOF
		}})
		return conn.Handshake()
	}},
	{name: "resumed session after its CA left the bundle", verdict: handshake, audit: "untrusted", run: func(t *testing.T, m *mesh) error {
		cert, cache := m.cert(m.ca.Issue(reader)), tls.NewLRUClientSessionCache(8)
		withCache := func(c *tls.Config) { c.ClientSessionCache = cache }
		if err := m.shake(t, cert, withCache); err != nil {
			t.Fatalf("before the CA left: %v", err)
		}
		m.source.Trust(rolecalltest.NewCA(t, "mesh.local"))
		return m.shake(t, cert, withCache)
	}},
	{name: "a slow handshake", verdict: handshake, audit: "timeout", run: func(t *testing.T, m *mesh) error {
		conn := m.tcp(t)
		// A TLS record header that promises a ClientHello and then nothing: what a client does that wants to hold a place.
		if _, err := conn.Write([]byte{0x16, 0x03, 0x01, 0x02, 0x00}); err != nil {
			return err
		}
		start := time.Now()
		_ = conn.SetReadDeadline(start.Add(20 * time.Second))
		_, err := conn.Read(make([]byte, 1))
		var timeout net.Error
		if errors.As(err, &timeout) && timeout.Timeout() {
			t.Fatal("the connection was still open after 20 s")
		}
		t.Logf("the server gave up after %s", time.Since(start).Round(time.Millisecond))
		if err == nil {
			err = io.EOF
		}
		return err
	}},
}
