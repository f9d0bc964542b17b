package identity

import (
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
)

func TestLeafKeys(t *testing.T) {
	t.Parallel()
	curve := func(c elliptic.Curve) any {
		key, err := ecdsa.GenerateKey(c, rand.Reader)
		must(t, err)
		return key.Public()
	}
	bits := func(n int) any {
		return &rsa.PublicKey{N: new(big.Int).SetBit(big.NewInt(1), n-1, 1), E: 65537}
	}
	for _, c := range []struct {
		name string
		key  any
		good bool
	}{
		{"P-256", curve(elliptic.P256()), true},
		{"P-384", curve(elliptic.P384()), true},
		{"P-521", curve(elliptic.P521()), true},
		{"Ed25519", ed25519.PublicKey(make([]byte, ed25519.PublicKeySize)), true},
		{"RSA of 2048 bits", bits(2048), true},
		{"RSA of 4096 bits", bits(4096), true},
		{"P-224", curve(elliptic.P224()), false},
		{"RSA of 1024 bits", bits(1024), false},
		{"RSA of 2047 bits", bits(2047), false},
		{"X25519", &ecdh.PublicKey{}, false},
		{"no key", nil, false},
	} {
		if err := checkKey(c.key); (err == nil) != c.good {
			t.Errorf("%s: got %v, want it allowed: %v", c.name, err, c.good)
		}
	}
}

// names makes the value of a subject alternative name out of general names.
func names(t testing.TB, values ...asn1.RawValue) []byte {
	t.Helper()
	value, err := asn1.Marshal(values)
	must(t, err)
	return value
}

func uriName(text string) asn1.RawValue {
	return asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 6, Bytes: []byte(text)}
}

func TestTheSubjectAlternativeNameHoldsOneIDInItsOnlySpelling(t *testing.T) {
	t.Parallel()
	good := uriName(ledger.String())
	dns := asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 2, Bytes: []byte("ledger.mesh.local")}
	for _, c := range []struct {
		name   string
		values [][]byte
		good   bool
	}{
		{"the ID", [][]byte{names(t, good)}, true},
		{"the ID beside a DNS name", [][]byte{names(t, dns, good)}, true},
		{"none", nil, false},
		{"a DNS name alone", [][]byte{names(t, dns)}, false},
		{"the ID twice", [][]byte{names(t, good, good)}, false},
		{"the ID in two extensions", [][]byte{names(t, good), names(t, good)}, false},
		{"another ID", [][]byte{names(t, uriName("spiffe://mesh.local/service/orders"))}, false},
		{"upper case in the scheme", [][]byte{names(t, uriName("SPIFFE://mesh.local/service/ledger"))}, false},
		{"an escape", [][]byte{names(t, uriName("spiffe://mesh.local/service/%6cedger"))}, false},
		{"a final slash", [][]byte{names(t, uriName("spiffe://mesh.local/service/ledger/"))}, false},
		{"a NUL", [][]byte{names(t, uriName("spiffe://mesh.local/service/ledger\x00"))}, false},
		{"bytes behind the names", [][]byte{append(names(t, good), 0)}, false},
		{"not ASN.1", [][]byte{[]byte("spiffe://mesh.local/service/ledger")}, false},
		{"empty", [][]byte{{}}, false},
	} {
		cert := &x509.Certificate{}
		for _, value := range c.values {
			cert.Extensions = append(cert.Extensions, pkix.Extension{Id: oidSAN, Value: value})
		}
		if err := checkSAN(cert, ledger); (err == nil) != c.good {
			t.Errorf("%s: got %v, want it allowed: %v", c.name, err, c.good)
		}
	}
}

// FuzzCheckSAN signs whatever bytes as a subject alternative name. Where crypto/x509, go-spiffe and checkSAN all accept
// them, the ID that go-spiffe read must be the one URI name that crypto/x509 read, byte for byte.
func FuzzCheckSAN(f *testing.F) {
	for _, seed := range [][]byte{
		names(f, uriName(ledger.String())),
		names(f, uriName(ledger.String()), uriName(ledger.String())),
		names(f, uriName("SPIFFE://mesh.local/service/ledger")),
		names(f, uriName("spiffe://mesh.local/service%2fledger")),
		{0x30, 0x00}, {},
	} {
		f.Add(seed)
	}
	key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	f.Fuzz(func(t *testing.T, value []byte) {
		// First for whatever crypto/x509 would not even parse: it may be refused, and must not panic.
		_ = checkSAN(&x509.Certificate{Extensions: []pkix.Extension{{Id: oidSAN, Value: value}}}, ledger)

		template := *template
		template.ExtraExtensions = []pkix.Extension{{Id: oidSAN, Value: value}}
		der, err := x509.CreateCertificate(rand.Reader, &template, &template, key.Public(), key)
		if err != nil {
			return
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return
		}
		id, err := x509svid.IDFromCert(cert)
		if err != nil || checkSAN(cert, id) != nil {
			return
		}
		if len(cert.URIs) != 1 || cert.URIs[0].String() != id.String() {
			t.Errorf("%q was accepted as %s, crypto/x509 reads %v", value, id, cert.URIs)
		}
	})
}
