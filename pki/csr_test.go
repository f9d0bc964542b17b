package pki_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"fmt"
	"net"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"example.com/rolecall/pki"
)

func ecKey(t *testing.T, curve elliptic.Curve) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func uri(t *testing.T, text string) *url.URL {
	t.Helper()
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func request(t *testing.T, key crypto.Signer, template *x509.CertificateRequest) []byte {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// sanOf encodes a subject alternative name of any GeneralNames.
func sanOf(t *testing.T, names ...asn1.RawValue) pkix.Extension {
	t.Helper()
	value, err := asn1.Marshal(names)
	if err != nil {
		t.Fatal(err)
	}
	return pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Value: value}
}

func generalName(kind int, value string) asn1.RawValue {
	return asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: kind, Bytes: []byte(value)}
}

func TestAGoodCSRPassesTheGate(t *testing.T) {
	t.Parallel()
	for _, curve := range []elliptic.Curve{elliptic.P256(), elliptic.P384()} {
		key := ecKey(t, curve)
		id := spiffeid.RequireFromPath(domain, "/service/ledger")
		der, err := pki.NewCSR(key, id, []string{"localhost", "ledger.mesh.local"}, []net.IP{net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Fatal(err)
		}
		got, err := pki.ReadCSR(der, domain)
		if err != nil {
			t.Fatalf("%s: %v", curve.Params().Name, err)
		}
		want := &pki.Request{PublicKey: key.Public(), ID: id, DNSNames: []string{"localhost", "ledger.mesh.local"},
			IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1).To4()}}
		if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b spiffeid.ID) bool { return a == b }),
			cmp.Comparer(func(a, b *ecdsa.PublicKey) bool { return a.Equal(b) })); diff != "" {
			t.Errorf("%s (-want +got):\n%s", curve.Params().Name, diff)
		}
	}
}

func TestAttacksOnTheCSRGate(t *testing.T) {
	t.Parallel()
	const id = "spiffe://mesh.local/service/ledger"
	good := func(t *testing.T) *x509.CertificateRequest {
		return &x509.CertificateRequest{URIs: []*url.URL{uri(t, id)}}
	}
	with := func(change func(t *testing.T, r *x509.CertificateRequest)) func(*testing.T) []byte {
		return func(t *testing.T) []byte {
			template := good(t)
			change(t, template)
			return request(t, ecKey(t, elliptic.P256()), template)
		}
	}
	withSAN := func(names ...asn1.RawValue) func(*testing.T) []byte {
		return func(t *testing.T) []byte {
			return request(t, ecKey(t, elliptic.P256()), &x509.CertificateRequest{ExtraExtensions: []pkix.Extension{sanOf(t, names...)}})
		}
	}
	withKey := func(make func(t *testing.T) crypto.Signer) func(*testing.T) []byte {
		return func(t *testing.T) []byte { return request(t, make(t), good(t)) }
	}
	withURI := func(text string) func(*testing.T) []byte { return withSAN(generalName(6, text)) }
	for _, c := range []struct {
		attack string
		der    func(t *testing.T) []byte
		want   string
	}{
		{"bad self-signature", func(t *testing.T) []byte {
			der := request(t, ecKey(t, elliptic.P256()), good(t))
			der[len(der)-1] ^= 1
			return der
		}, "not signed by its own key"},
		{"the public key of somebody else", func(t *testing.T) []byte {
			key := ecKey(t, elliptic.P256())
			return bytes.Replace(request(t, key, good(t)), point(t, key), point(t, ecKey(t, elliptic.P256())), 1)
		}, "not signed by its own key"},
		{"RSA 1024", fromFile("testdata/rsa1024.csr"), "only ECDSA"}, // Go makes no such key any more
		{"RSA 2048", withKey(func(t *testing.T) crypto.Signer {
			key, err := rsa.GenerateKey(rand.Reader, 2048)
			if err != nil {
				t.Fatal(err)
			}
			return key
		}), "only ECDSA"},
		{"Ed25519", withKey(func(t *testing.T) crypto.Signer {
			_, key, err := ed25519.GenerateKey(rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			return key
		}), "only ECDSA"},
		{"P-224", withKey(func(t *testing.T) crypto.Signer { return ecKey(t, elliptic.P224()) }), "P-224"},
		{"P-521", withKey(func(t *testing.T) crypto.Signer { return ecKey(t, elliptic.P521()) }), "P-521"},
		{"an extra extension: cA:TRUE", with(func(_ *testing.T, r *x509.CertificateRequest) {
			r.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 19}, Critical: true, Value: []byte{0x30, 3, 1, 1, 0xff}}}
		}), "extension 2.5.29.19"},
		{"an extra extension: key usage", with(func(_ *testing.T, r *x509.CertificateRequest) {
			r.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 15}, Value: []byte{3, 2, 2, 4}}}
		}), "extension 2.5.29.15"},
		{"the subject alternative name twice", func(t *testing.T) []byte {
			return request(t, ecKey(t, elliptic.P256()), &x509.CertificateRequest{ExtraExtensions: []pkix.Extension{
				sanOf(t, generalName(6, id)), sanOf(t, generalName(6, "spiffe://mesh.local/service/other"))}})
		}, ""}, // refused by the parser or by the gate
		{"a SAN of someone else's trust domain", withURI("spiffe://evil.local/service/ledger"), "not of the trust domain mesh.local"},
		{"a sub-domain of the trust domain", withURI("spiffe://a.mesh.local/service/ledger"), "not of the trust domain"},
		{"a port in the trust domain", withURI("spiffe://mesh.local:443/service/ledger"), "URI name"},
		{"userinfo in the trust domain", withURI("spiffe://x@mesh.local/service/ledger"), "URI name"},
		{"upper case in the trust domain", withURI("spiffe://MESH.local/service/ledger"), "URI name"},
		{"another scheme", withURI("https://mesh.local/service/ledger"), "URI name"},
		{"a query", withURI(id + "?role=admin"), "URI name"},
		{"a percent-encoded path", withURI("spiffe://mesh.local/service/%6cedger"), "URI name"},
		{"dots in the path", withURI("spiffe://mesh.local/service/../operator/alice"), "URI name"},
		{"an ID without a path", withURI("spiffe://mesh.local"), "has no path"},
		{"an ID with a trailing slash", withURI("spiffe://mesh.local/"), "URI name"},
		{"no URI at all", with(func(_ *testing.T, r *x509.CertificateRequest) { r.URIs = nil }), "0 URI names"},
		{"two SPIFFE IDs", with(func(t *testing.T, r *x509.CertificateRequest) {
			r.URIs = append(r.URIs, uri(t, "spiffe://mesh.local/operator/alice"))
		}), "2 URI names"},
		{"duplicate SANs", with(func(_ *testing.T, r *x509.CertificateRequest) { r.DNSNames = []string{"localhost", "localhost"} }), "occurs twice"},
		{"duplicate IP addresses, written in two ways", with(func(_ *testing.T, r *x509.CertificateRequest) {
			r.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1), net.ParseIP("::1"), net.ParseIP("::1")}
		}), "occurs twice"},
		{"a CN of someone else", with(func(_ *testing.T, r *x509.CertificateRequest) { r.Subject.CommonName = "alice" }), "must be empty"},
		{"a wildcard", with(func(_ *testing.T, r *x509.CertificateRequest) { r.DNSNames = []string{"*.mesh.local"} }), "character other than"},
		{"a DNS name in upper case", with(func(_ *testing.T, r *x509.CertificateRequest) { r.DNSNames = []string{"LocalHost"} }), "character other than"},
		{"an IP address as DNS name", with(func(_ *testing.T, r *x509.CertificateRequest) { r.DNSNames = []string{"127.0.0.1"} }), "is an IP address"},
		{"an embedded NUL", withSAN(generalName(6, id), generalName(2, "localhost\x00.evil.com")), "zero byte"},
		{"an e-mail name", with(func(_ *testing.T, r *x509.CertificateRequest) { r.EmailAddresses = []string{"alice@mesh.local"} }), "kind 1"},
		{"a name of a kind that parsers pass over", withSAN(generalName(6, id), generalName(8, "*")), "kind 8"},
		{"an IPv6 zone", withSAN(generalName(6, id), generalName(7, "fe80::1%eth0")), ""}, // refused by the parser
		{"an IPv6 zone as DNS name", withSAN(generalName(6, id), generalName(2, "fe80::1%eth0")), "character other than"},
		{"an IPv6 zone in the trust domain", withURI("spiffe://[fe80::1%25eth0]/service/ledger"), "URI name"},
		{"an embedded NUL in the path", withURI("spiffe://mesh.local/service/led\x00ger"), ""}, // refused by the parser
		{"an embedded NUL in the trust domain", withURI("spiffe://mesh.local\x00.eve.local/service/ledger"), ""},
		{"the unspecified IP address", with(func(_ *testing.T, r *x509.CertificateRequest) { r.IPAddresses = []net.IP{net.IPv6zero} }), "cannot be that of a server"},
		{"an IPv4 address written as IPv6 beside itself", withSAN(generalName(6, id), generalName(7, "\x7f\x00\x00\x01"), generalName(7, string(net.IPv4(127, 0, 0, 1)))), "occurs twice"},
		{"5,000 SANs", with(func(_ *testing.T, r *x509.CertificateRequest) {
			for i := range 5000 {
				r.DNSNames = append(r.DNSNames, fmt.Sprintf("a%d", i))
			}
		}), "16384 at most"},
		{"5,000 SANs that fit in 16 KB", withSAN(append(slices.Repeat([]asn1.RawValue{generalName(2, "a")}, 5000), generalName(6, id))...), "at most 32"},
		{"3,000 URIs", withSAN(slices.Repeat([]asn1.RawValue{generalName(6, "a:")}, 3000)...), "URI names"},
		{"17 IP addresses", with(func(_ *testing.T, r *x509.CertificateRequest) {
			for i := range 17 {
				r.IPAddresses = append(r.IPAddresses, net.IPv4(10, 0, 0, byte(i)))
			}
		}), "at most 32 and 16"},
		{"33 DNS names", with(func(_ *testing.T, r *x509.CertificateRequest) {
			for i := range 33 {
				r.DNSNames = append(r.DNSNames, fmt.Sprintf("a%d", i))
			}
		}), "at most 32"},
		{"1 MB", func(*testing.T) []byte { return make([]byte, 1<<20) }, "16384 at most"},
		{"1 MB that is well-formed", with(func(_ *testing.T, r *x509.CertificateRequest) {
			r.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 99999, 1}, Value: make([]byte, 1<<20)}}
		}), "16384 at most"},
		{"an organization of someone else", with(func(_ *testing.T, r *x509.CertificateRequest) { r.Subject.Organization = []string{"rolecall"} }), "must be empty"},
		{"an issuer's request", func(t *testing.T) []byte {
			return request(t, ecKey(t, elliptic.P256()), &x509.CertificateRequest{URIs: []*url.URL{uri(t, "spiffe://mesh.local")}})
		}, "has no path"},
		{"a challenge password", func(t *testing.T) []byte {
			return request(t, ecKey(t, elliptic.P256()), withChallengePassword())
		}, "nothing else"},
		{"data after the end", func(t *testing.T) []byte {
			return append(request(t, ecKey(t, elliptic.P256()), good(t)), 0)
		}, "PKCS#10"},
		{"nothing", func(*testing.T) []byte { return nil }, "PKCS#10"},
	} {
		t.Run(c.attack, func(t *testing.T) {
			t.Parallel()
			got, err := pki.ReadCSR(c.der(t), domain)
			if err == nil {
				t.Fatalf("passed the gate as %+v", got)
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("refused for %q, want a reason with %q", err, c.want)
			}
		})
	}
}

// fromFile reads a request that openssl made.
func fromFile(path string) func(*testing.T) []byte {
	return func(t *testing.T) []byte {
		t.Helper()
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		block, _ := pem.Decode(data)
		return block.Bytes
	}
}

func withChallengePassword() *x509.CertificateRequest {
	password := pkix.AttributeTypeAndValueSET{Type: asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 7},
		Value: [][]pkix.AttributeTypeAndValue{{{Type: asn1.ObjectIdentifier{1, 2, 3}, Value: "secret"}}}}
	//lint:ignore SA1019 there is no other way to write an attribute
	return &x509.CertificateRequest{Attributes: []pkix.AttributeTypeAndValueSET{password}} //nolint:staticcheck // as above
}

// point returns the public key as it stands in a certificate or request.
func point(t *testing.T, key crypto.Signer) []byte {
	t.Helper()
	bytes, err := key.Public().(*ecdsa.PublicKey).Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return bytes
}

func TestNothingOfACSRButItsKeyReachesTheCertificate(t *testing.T) {
	t.Parallel()
	ca, _ := sharedCA(t)
	leaf := leafFor(t, "/service/ledger")
	first, second := issue(t, ca.Issuers(), leaf)[0], issue(t, ca.Issuers(), leaf)[0]
	if first.SerialNumber.Cmp(second.SerialNumber) == 0 {
		t.Error("two certificates have one serial number")
	}
	if bits := first.SerialNumber.BitLen(); bits < 96 || bits > 128 {
		t.Errorf("serial number of %d bits, want 128 random ones", bits)
	}
	if first.Subject.String() != "" {
		t.Errorf("leaf has the Subject %s, want none", first.Subject)
	}
}

func FuzzReadCSR(f *testing.F) {
	key, err := pki.NewKey()
	if err != nil {
		f.Fatal(err)
	}
	der, err := pki.NewCSR(key, spiffeid.RequireFromPath(domain, "/service/ledger"), []string{"localhost"}, []net.IP{net.IPv6loopback})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(der)
	f.Fuzz(func(t *testing.T, der []byte) {
		got, err := pki.ReadCSR(der, domain)
		if err == nil && (got.ID.TrustDomain() != domain || got.ID.Path() == "" || got.PublicKey == nil) {
			t.Errorf("passed the gate as %+v", got)
		}
	})
}
