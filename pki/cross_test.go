package pki

import (
	"crypto/x509"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// succession is an old root, a new one, the cross certificate between them, and a chain under the new root.
type succession struct {
	old, new            *Root
	cross, issuer, leaf *x509.Certificate
}

func newSuccession(t *testing.T, o RootOptions) succession {
	t.Helper()
	s := succession{old: memoryRoot(t, RootOptions{}), new: memoryRoot(t, o)}
	var err error
	s.cross, err = s.old.SignCross(s.new.cert)
	must(t, err)
	issuer, err := s.new.newIssuer(7, DefaultIssuerLife)
	must(t, err)
	s.issuer = issuer.Certificate
	s.leaf = leafUnder(t, issuer, func(*x509.Certificate) {})
	return s
}

// leafUnder signs a leaf with a stolen issuer key: whatever the thief likes.
func leafUnder(t *testing.T, issuer *Issuer, change func(*x509.Certificate)) *x509.Certificate {
	t.Helper()
	key, err := NewKey()
	must(t, err)
	template, err := leafTemplate(Leaf{ID: workload(t, "/service/ledger"), PublicKey: key.Public(), Life: time.Hour, DNSNames: []string{"localhost"}}, issuer, time.Now())
	must(t, err)
	change(template)
	cert, err := sign(template, issuer.Certificate, key.Public(), issuer.key)
	must(t, err)
	return cert
}

func pool(certs ...*x509.Certificate) *x509.CertPool {
	p := x509.NewCertPool()
	for _, cert := range certs {
		p.AddCert(cert)
	}
	return p
}

// files writes each certificate to a file of its own, or all to one.
func files(t *testing.T, name string, certs ...*x509.Certificate) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	must(t, os.WriteFile(path, encodeCertificates(certs...), 0o600))
	return path
}

func TestAChainWithACrossCertificateVerifiesWithEitherRoot(t *testing.T) {
	t.Parallel()
	needOpenSSL(t)
	for name, options := range map[string]RootOptions{"to a root on P-256": {}, "to a root on P-384": {P384: true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSuccession(t, options)
			for _, c := range []struct {
				name  string
				roots []*x509.Certificate
				chain []*x509.Certificate
				ok    bool
			}{
				{"a verifier that knows the old root only", []*x509.Certificate{s.old.cert}, []*x509.Certificate{s.issuer, s.cross}, true},
				{"a verifier that knows the new root only", []*x509.Certificate{s.new.cert}, []*x509.Certificate{s.issuer, s.cross}, true},
				{"a verifier that knows both", []*x509.Certificate{s.old.cert, s.new.cert}, []*x509.Certificate{s.issuer, s.cross}, true},
				{"the new root without the cross certificate", []*x509.Certificate{s.new.cert}, []*x509.Certificate{s.issuer}, true},
				{"the old root without the cross certificate", []*x509.Certificate{s.old.cert}, []*x509.Certificate{s.issuer}, false},
			} {
				_, err := s.leaf.Verify(x509.VerifyOptions{Roots: pool(c.roots...), Intermediates: pool(c.chain...)})
				if (err == nil) != c.ok {
					t.Errorf("%s: Go says %v, want accepted %v", c.name, err, c.ok)
				}
				if c.ok {
					run(t, "verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", files(t, "roots.pem", c.roots...),
						"-untrusted", files(t, "chain.pem", c.chain...), files(t, "leaf.pem", s.leaf))
				}
			}
		})
	}
}

func TestACrossCertificateCannotBeStretched(t *testing.T) {
	t.Parallel()
	s := newSuccession(t, RootOptions{Life: 1000 * time.Hour})
	if got := s.cross.NotAfter; !got.Equal(s.new.cert.NotAfter) {
		t.Errorf("it ends at %s, want the end of the new root, which is earlier than the old one's: %s", got, s.new.cert.NotAfter)
	}
	// An authority below an issuer of the new root is one too many, although the new root itself would not mind.
	issuer, err := s.new.newIssuer(8, DefaultIssuerLife)
	must(t, err)
	below, err := NewKey()
	must(t, err)
	template := *issuer.Certificate
	template.SerialNumber, template.MaxPathLen, template.MaxPathLenZero = newSerial(), 0, true
	template.Subject.CommonName, template.RawSubject = "issuer below an issuer", nil
	second, err := sign(&template, issuer.Certificate, below.Public(), issuer.key)
	must(t, err)
	leaf := leafUnder(t, &Issuer{Certificate: second, key: below}, func(*x509.Certificate) {})
	_, err = leaf.Verify(x509.VerifyOptions{Roots: pool(s.old.cert), Intermediates: pool(second, issuer.Certificate, s.cross)})
	if err == nil || !strings.Contains(err.Error(), "too many intermediates") {
		t.Errorf("a chain of four: %v, want a refusal", err)
	}
}

func TestAttacksOnTheCrossCertificate(t *testing.T) {
	t.Parallel()
	old := memoryRoot(t, RootOptions{})
	another, err := spiffeid.TrustDomainFromString("other.local")
	must(t, err)
	issuer, err := old.newIssuer(1, DefaultIssuerLife)
	must(t, err)
	past := func() time.Time { return time.Now().Add(-48 * time.Hour) }
	for _, c := range []struct {
		attack string
		cert   *x509.Certificate
		want   string
	}{
		{"a root of another trust domain", memoryRoot(t, RootOptions{TrustDomain: another}).cert, "for the trust domain other.local"},
		{"an issuer as new root", issuer.Certificate, "not self-signed"},
		{"a leaf presented as CA", leafUnder(t, issuer, func(*x509.Certificate) {}), "has a path"},
		{"the old root itself", old.cert, "has the key of this one"},
		{"a new root that has expired", memoryRoot(t, RootOptions{Now: past, Life: time.Hour}).cert, "expired at"},
	} {
		t.Run(c.attack, func(t *testing.T) {
			t.Parallel()
			if cert, err := old.SignCross(c.cert); err == nil || cert != nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("SignCross: %v, want a refusal with %q", err, c.want)
			}
		})
	}
	expired := memoryRoot(t, RootOptions{Now: past, Life: time.Hour})
	expired.now = time.Now
	if _, err := expired.SignCross(memoryRoot(t, RootOptions{}).cert); err == nil || !strings.Contains(err.Error(), "replaced without a cross certificate") {
		t.Errorf("an old root that has expired: %v, want a refusal that says what to do", err)
	}
}

func TestACrossCertificateThatDoesNotFitIsFound(t *testing.T) {
	t.Parallel()
	s := newSuccession(t, RootOptions{})
	third := memoryRoot(t, RootOptions{})
	resign := func(change func(*x509.Certificate)) *x509.Certificate {
		template := *s.cross
		template.SerialNumber = newSerial()
		change(&template)
		cert, err := sign(&template, s.old.cert, s.new.key.Public(), s.old.key)
		must(t, err)
		return cert
	}
	for _, c := range []struct {
		attack             string
		cert, newer, older *x509.Certificate
		want               string
	}{
		{"for another new root", s.cross, third.cert, s.old.cert, "does not name the new root"},
		{"of another old root", s.cross, s.new.cert, third.cert, "authority key identifier"},
		{"no limit on the chain below it", resign(func(c *x509.Certificate) { c.MaxPathLen = -1 }), s.new.cert, s.old.cert, "pathLen must be 1"},
		{"no name constraint", resign(func(c *x509.Certificate) { c.PermittedURIDomains = nil }), s.new.cert, s.old.cert, "no critical name constraint"},
		{"a name constraint for two trust domains", resign(func(c *x509.Certificate) { c.PermittedURIDomains = append(c.PermittedURIDomains, "eve.local") }),
			s.new.cert, s.old.cert, "no critical name constraint"},
		{"the Subject of another", resign(func(c *x509.Certificate) { c.RawSubject = third.cert.RawSubject }), s.new.cert, s.old.cert, "does not name the new root"},
		{"longer than the old root", resign(func(c *x509.Certificate) { c.NotAfter = s.old.cert.NotAfter.Add(time.Hour) }), s.new.cert, s.old.cert, "outlives"},
	} {
		if err := lintCross(c.cert, c.newer, c.older); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want a reason with %q", c.attack, err, c.want)
		}
	}
	if err := lintCross(s.cross, s.new.cert, s.old.cert); err != nil {
		t.Errorf("a good one: %v", err)
	}
}
