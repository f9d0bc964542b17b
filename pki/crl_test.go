package pki

import (
	"crypto/x509"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
)

func bundleOf(roots ...*Root) *x509bundle.Bundle {
	bundle := x509bundle.New(testDomain)
	for _, root := range roots {
		bundle.AddX509Authority(root.cert)
	}
	return bundle
}

func TestTheCRLOfTheRootStopsARevokedIssuer(t *testing.T) {
	t.Parallel()
	needOpenSSL(t)
	root, another := memoryRoot(t, RootOptions{}), memoryRoot(t, RootOptions{})
	var chains [2][2]*x509.Certificate
	for n := range chains {
		issuer, err := root.newIssuer(n+1, DefaultIssuerLife)
		must(t, err)
		chains[n] = [2]*x509.Certificate{leafUnder(t, issuer, func(*x509.Certificate) {}), issuer.Certificate}
	}
	foreign, err := another.newIssuer(3, DefaultIssuerLife)
	must(t, err)
	revoked := []Revocation{{Generation: 2, Certificate: chains[1][1], At: time.Now(), Reason: "the machine was stolen"},
		{Generation: 3, Certificate: foreign.Certificate, At: time.Now()}}
	der, err := root.SignCRL(revoked, big.NewInt(42), time.Now().Add(24*time.Hour))
	must(t, err)
	path := filepath.Join(t.TempDir(), "crl.pem")
	must(t, os.WriteFile(path, EncodeCRL(der), 0o644))

	list, err := ReadCRL(path, bundleOf(another, root))
	must(t, err)
	if len(list.RevokedCertificateEntries) != 1 || list.RevokedCertificateEntries[0].SerialNumber.Cmp(chains[1][1].SerialNumber) != 0 || list.Number.Int64() != 42 {
		t.Errorf("list number %s of %d entries; want 42, and the one issuer of this root", list.Number, len(list.RevokedCertificateEntries))
	}
	if _, err := ReadCRL(path, bundleOf(another)); err == nil || !strings.Contains(err.Error(), "no root of the bundle signed it") {
		t.Errorf("ReadCRL with another root: %v, want a refusal", err)
	}
	roots := files(t, "root.pem", root.cert)
	text, err := exec.Command("openssl", "crl", "-in", path, "-noout", "-text", "-CAfile", roots).CombinedOutput()
	must(t, err)
	for _, want := range []string{"verify OK", "X509v3 CRL Number: \n                42", "CA Compromise", "X509v3 Authority Key Identifier"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("openssl crl does not show %q:\n%s", want, text)
		}
	}
	empty, err := root.SignCRL(nil, big.NewInt(1), time.Now().Add(time.Hour))
	must(t, err)
	// Issuers sign no lists, so the issuer itself is checked, not a leaf.
	for n, want := range []string{"OK", "certificate revoked"} {
		cmd := exec.Command("openssl", "verify", "-CAfile", roots, "-untrusted", files(t, "issuer.pem", chains[n][1]), "-crl_check_all",
			"-CRLfile", path, files(t, "issuer.pem", chains[n][1]))
		out, _ := cmd.CombinedOutput()
		if !strings.Contains(string(out), want) {
			t.Errorf("openssl verify -crl_check_all of issuer %d does not say %q:\n%s", n+1, want, out)
		}
	}
	if list, err := x509.ParseRevocationList(empty); err != nil || len(list.RevokedCertificateEntries) != 0 {
		t.Errorf("an empty list: %v", err)
	}
}

func TestCRLsThatAreRefused(t *testing.T) {
	t.Parallel()
	root, another := memoryRoot(t, RootOptions{}), memoryRoot(t, RootOptions{})
	foreign, err := another.newIssuer(3, DefaultIssuerLife)
	must(t, err)
	soon := time.Now().Add(time.Hour)
	for _, c := range []struct {
		attack  string
		revoked []Revocation
		number  *big.Int
		next    time.Time
		want    string
	}{
		{"no number", nil, nil, soon, "number must be positive"},
		{"number zero", nil, new(big.Int), soon, "number must be positive"},
		{"a number of 21 octets", nil, new(big.Int).Lsh(big.NewInt(1), 160), soon, "20 octets"},
		{"a next list in the past", nil, big.NewInt(1), time.Now().Add(-time.Hour), "which is past"},
		{"issuers of another root only", []Revocation{{Certificate: foreign.Certificate, At: time.Now()}}, big.NewInt(1), soon, "use the root that signed them"},
	} {
		if der, err := root.SignCRL(c.revoked, c.number, c.next); err == nil || der != nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want a refusal with %q", c.attack, err, c.want)
		}
	}
	der, err := root.SignCRL(nil, big.NewInt(1), soon)
	must(t, err)
	for _, c := range []struct{ attack, data, want string }{
		{"a certificate as CRL", string(encodeCertificates(root.cert)), "one PEM block"},
		{"two lists", string(EncodeCRL(der)) + string(EncodeCRL(der)), "one PEM block"},
		{"a truncated list", string(EncodeCRL(der[:len(der)-9])), "read CRL"},
		{"nothing", "", "one PEM block"},
	} {
		path := filepath.Join(t.TempDir(), "crl.pem")
		must(t, os.WriteFile(path, []byte(c.data), 0o600))
		if _, err := ReadCRL(path, bundleOf(root)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want a refusal with %q", c.attack, err, c.want)
		}
	}
}
