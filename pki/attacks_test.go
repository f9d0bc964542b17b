package pki

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

var loopback = []net.IP{net.IPv4(127, 0, 0, 1).To4(), net.IPv6loopback}

// withURIs replaces the alternative names by these URIs, however wrong, and DNS names.
func withURIs(t *testing.T, dns []string, uris ...string) func(*x509.Certificate) {
	t.Helper()
	return func(c *x509.Certificate) {
		var names []asn1.RawValue
		for _, name := range dns {
			names = append(names, asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 2, Bytes: []byte(name)})
		}
		for _, uri := range uris {
			names = append(names, asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 6, Bytes: []byte(uri)})
		}
		c.URIs, c.DNSNames, c.IPAddresses = nil, nil, nil
		c.ExtraExtensions = []pkix.Extension{{Id: oidSubjectAltName, Critical: true, Value: marshal(t, names)}}
	}
}

// TestTheNameConstraintTable is what a thief of an issuer's key can sign. Go's verifier is not the last word on the trust
// domain: the third column is what holds, the profile and the exact comparison.
func TestTheNameConstraintTable(t *testing.T) {
	t.Parallel()
	root := memoryRoot(t, RootOptions{})
	issuer, err := root.newIssuer(1, DefaultIssuerLife)
	must(t, err)
	for _, c := range []struct {
		attack string
		change func(*x509.Certificate)
		goSays bool   // what Go's verifier says, which includes the name constraint
		want   string // why we refuse it; "" if we do not
	}{
		{"the trust domain itself", withURIs(t, nil, "spiffe://mesh.local/service/ledger"), true, ""},
		{"another trust domain", withURIs(t, nil, "spiffe://eve.local/service/ledger"), false, "not of the trust domain"},
		{"a sub-domain", withURIs(t, nil, "spiffe://a.mesh.local/service/ledger"), true, "not of the trust domain"},
		{"a domain that ends in the same letters", withURIs(t, nil, "spiffe://evilmesh.local/service/ledger"), false, "not of the trust domain"},
		{"a port", withURIs(t, nil, "spiffe://mesh.local:443/service/ledger"), true, "URI name"},
		{"userinfo", withURIs(t, nil, "spiffe://eve@mesh.local/service/ledger"), true, "URI name"},
		{"userinfo that looks like the trust domain", withURIs(t, nil, "spiffe://mesh.local@eve.local/service/ledger"), false, "URI name"},
		{"upper case", withURIs(t, nil, "spiffe://MESH.local/service/ledger"), true, "URI name"},
		{"another scheme", withURIs(t, nil, "https://mesh.local/service/ledger"), true, "URI name"},
		{"no URI: a name that the constraint does not speak of", withURIs(t, []string{"ledger.eve.local"}), true, "0 URI names"},
		{"two URIs, one of each trust domain", withURIs(t, nil, "spiffe://mesh.local/service/ledger", "spiffe://eve.local/service/ledger"), false, "2 URI names"},
		{"two URIs of the trust domain", withURIs(t, nil, "spiffe://mesh.local/service/ledger", "spiffe://mesh.local/operator/alice"), true, "2 URI names"},
		{"no path", withURIs(t, nil, "spiffe://mesh.local"), true, "has no path"},
		{"a query", withURIs(t, nil, "spiffe://mesh.local/service/ledger?as=alice"), true, "URI name"},
		{"an authority below the issuer", func(c *x509.Certificate) { c.IsCA, c.KeyUsage = true, x509.KeyUsageCertSign }, true, "no authority"},
	} {
		t.Run(c.attack, func(t *testing.T) {
			t.Parallel()
			leaf := leafUnder(t, issuer, c.change)
			_, err := leaf.Verify(x509.VerifyOptions{Roots: pool(root.cert), Intermediates: pool(issuer.Certificate)})
			if (err == nil) != c.goSays {
				t.Errorf("Go's verifier says %v, want accepted %v: the comment in SignIssuer is out of date", err, c.goSays)
			}
			if err := LintLeaf(leaf); err == nil {
				err = sameDomain(leaf)
				if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
					t.Errorf("we say %v, want %q", err, c.want)
				}
			} else if c.want == "" || !strings.Contains(err.Error(), c.want) {
				t.Errorf("we say %v, want %q", err, c.want)
			}
		})
	}
}

// sameDomain compares trust domains as verifiers of the mesh do.
func sameDomain(leaf *x509.Certificate) error {
	id, err := spiffeid.FromURI(leaf.URIs[0])
	if err != nil {
		return err
	}
	if id.TrustDomain() != testDomain {
		return fmt.Errorf("%s is not of the trust domain %s", id, testDomain)
	}
	return nil
}

func TestAnIssuerForAnotherTrustDomainIsRefused(t *testing.T) {
	t.Parallel()
	root, eve := memoryRoot(t, RootOptions{}), memoryRoot(t, RootOptions{TrustDomain: spiffeid.RequireTrustDomainFromString("eve.local")})
	foreign, err := eve.newIssuer(1, DefaultIssuerLife)
	must(t, err)
	if err := lintIssuer(foreign.Certificate, root.cert); err == nil || !strings.Contains(err.Error(), "for the trust domain eve.local") {
		t.Errorf("lintIssuer: %v, want a refusal", err)
	}
	// The same, signed by the root of the mesh itself: a request that somebody carried there under another name.
	template := *foreign.Certificate
	template.SerialNumber = newSerial()
	smuggled, err := sign(&template, root.cert, foreign.key.Public(), root.key)
	must(t, err)
	if err := lintIssuer(smuggled, root.cert); err == nil || !strings.Contains(err.Error(), "for the trust domain eve.local") {
		t.Errorf("lintIssuer of one that the root signed: %v, want a refusal", err)
	}
}

func TestALeafPresentedAsCASignsNothing(t *testing.T) {
	t.Parallel()
	root := memoryRoot(t, RootOptions{})
	issuer, err := root.newIssuer(1, DefaultIssuerLife)
	must(t, err)
	key, err := NewKey()
	must(t, err)
	template, err := leafTemplate(Leaf{ID: workload(t, "/service/ledger"), PublicKey: key.Public(), Life: time.Hour}, issuer, time.Now())
	must(t, err)
	leaf, err := sign(template, issuer.Certificate, key.Public(), issuer.key)
	must(t, err)
	below := leafUnder(t, &Issuer{Certificate: leaf, key: key}, func(*x509.Certificate) {})
	if _, err := below.Verify(x509.VerifyOptions{Roots: pool(root.cert), Intermediates: pool(issuer.Certificate, leaf)}); err == nil {
		t.Error("Go's verifier accepts a leaf under a leaf")
	}
	if err := lintIssuer(leaf, root.cert); err == nil {
		t.Error("a leaf is accepted as an issuer")
	}
}

func TestSerialNumbersDoNotCollide(t *testing.T) {
	t.Parallel()
	const many = 100_000
	seen := make(map[string]bool, many)
	smallest := 128
	for range many {
		serial := newSerial()
		if serial.Sign() <= 0 || serial.BitLen() > 128 {
			t.Fatalf("serial number %x: want 1 to 128 bits, positive", serial) // RFC 5280 §4.1.2.2
		}
		if seen[string(serial.Bytes())] {
			t.Fatalf("serial number %x occurs twice among %d", serial, len(seen))
		}
		seen[string(serial.Bytes())] = true
		smallest = min(smallest, serial.BitLen())
	}
	// Of 100,000 random numbers of 128 bits, one below 2^88 is a chance of one in ten million.
	if smallest < 88 {
		t.Errorf("the smallest has %d bits: these numbers are not random", smallest)
	}
	t.Logf("%d serial numbers, the smallest of %d bits, no two the same", many, smallest)
}
