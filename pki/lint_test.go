package pki_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"net/url"
	"slices"
	"strings"
	"testing"

	"example.com/rolecall/pki"
	"example.com/rolecall/rolecalltest"
)

func TestAttacksOnTheLeafProfile(t *testing.T) {
	t.Parallel()
	ca := rolecalltest.NewCA(t, "mesh.local")
	anyPolicy, err := x509.OIDFromInts([]uint64{2, 5, 29, 32, 0})
	if err != nil {
		t.Fatal(err)
	}
	if cert, _ := ca.Issue("/service/ledger"); pki.LintLeaf(cert) != nil {
		t.Fatalf("a good leaf is refused: %v", pki.LintLeaf(cert))
	}
	for _, c := range []struct {
		attack string
		change func(*x509.Certificate)
		want   string
	}{
		{"a leaf with the CA flag", func(c *x509.Certificate) { c.IsCA = true }, "no authority"},
		{"no basic constraints", func(c *x509.Certificate) { c.BasicConstraintsValid = false }, "basic constraints"},
		{"keyCertSign", func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageCertSign }, "key usage"},
		{"key agreement beside digitalSignature", func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageKeyAgreement }, "key usage"},
		{"no key usage", func(c *x509.Certificate) { c.KeyUsage = 0 }, "key usage"},
		{"key usage that is not critical", func(c *x509.Certificate) {
			c.KeyUsage = 0
			c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 15}, Value: []byte{3, 2, 7, 0x80}}}
		}, "must be critical"},
		{"EKU server only", func(c *x509.Certificate) { c.ExtKeyUsage = c.ExtKeyUsage[:1] }, "extended key usage"},
		{"EKU any", func(c *x509.Certificate) {
			c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageAny, x509.ExtKeyUsageClientAuth}
		}, "extended key usage"},
		{"EKU code signing as well", func(c *x509.Certificate) { c.ExtKeyUsage = append(c.ExtKeyUsage, x509.ExtKeyUsageCodeSigning) }, "extended key usage"},
		{"two URI SANs", func(c *x509.Certificate) { c.URIs = append(c.URIs, c.URIs[0]) }, "2 URI names"},
		{"no URI SAN", func(c *x509.Certificate) { c.URIs = nil }, "0 URI names"},
		{"a path-less ID", func(c *x509.Certificate) { c.URIs = []*url.URL{{Scheme: "spiffe", Host: "mesh.local"}} }, "has no path"},
		{"an https URI", func(c *x509.Certificate) { c.URIs[0].Scheme = "https" }, "URI name"},
		{"an e-mail name", func(c *x509.Certificate) { c.EmailAddresses = []string{"a@mesh.local"} }, "e-mail"},
		{"a CN used as identity", func(c *x509.Certificate) { c.Subject.CommonName = "ledger" }, "no Subject"},
		{"a wildcard DNS name", func(c *x509.Certificate) { c.DNSNames = []string{"*.local"} }, "character other than"},
		{"an extension nobody knows", func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 99999, 1}, Value: []byte{5, 0}}}
		}, "does not belong there"},
		{"a certificate policy", func(c *x509.Certificate) { c.Policies = []x509.OID{anyPolicy} }, "does not belong there"},
	} {
		t.Run(c.attack, func(t *testing.T) {
			t.Parallel()
			cert, _ := ca.Issue("/service/ledger", c.change)
			if err := pki.LintLeaf(cert); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("LintLeaf: %v, want a reason with %q", err, c.want)
			}
		})
	}
}

func TestOnlyRootsOfOneTrustDomainMakeABundle(t *testing.T) {
	t.Parallel()
	ca, other := rolecalltest.NewCA(t, "mesh.local"), rolecalltest.NewCA(t, "other.local")
	issuer, _ := ca.Intermediate()
	leaf, _ := ca.Issue("/service/ledger")
	if _, err := pki.NewBundle([]*x509.Certificate{ca.Root(), rolecalltest.NewCA(t, "mesh.local").Root()}); err != nil {
		t.Errorf("two roots of one trust domain: %v", err)
	}
	for _, c := range []struct {
		attack string
		certs  []*x509.Certificate
		want   string
	}{
		{"an issuer in the bundle", []*x509.Certificate{ca.Root(), issuer}, "not self-signed"},
		{"a leaf in the bundle", []*x509.Certificate{leaf}, "has a path"},
		{"roots of two trust domains", []*x509.Certificate{ca.Root(), other.Root()}, "two trust domains"},
		{"an empty bundle", nil, "0 roots"},
		{"150 roots", slices.Repeat([]*x509.Certificate{ca.Root()}, 150), "150 roots"},
	} {
		t.Run(c.attack, func(t *testing.T) {
			t.Parallel()
			if _, err := pki.NewBundle(c.certs); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("NewBundle: %v, want a reason with %q", err, c.want)
			}
		})
	}
}

func TestAnIssuerCannotSignForAnotherTrustDomain(t *testing.T) {
	t.Parallel()
	ca, _ := sharedCA(t)
	leaf := leafFor(t, "/service/ledger")
	leaf.ID = rolecalltest.NewCA(t, "other.local").ID("/service/ledger")
	if _, err := ca.Issuers().Issue(leaf); err == nil || !strings.Contains(err.Error(), "not of the trust domain mesh.local") {
		t.Errorf("Issue: %v, want a refusal", err)
	}

	// Somebody who took the issuer key is held by the name constraint, also where nobody compares trust domains.
	chain := issue(t, ca.Issuers(), leafFor(t, "/service/ledger"))
	if got := chain[1].PermittedURIDomains; len(got) != 1 || got[0] != "mesh.local" || !chain[1].PermittedDNSDomainsCritical {
		t.Errorf("issuer permits %q (critical %v), want mesh.local (critical)", got, chain[1].PermittedDNSDomainsCritical)
	}
}
