package pki_test

import (
	"bytes"
	"encoding/pem"
	"io/fs"
	"maps"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"example.com/rolecall/pki"
)

// everythingWritten makes a certificate authority in the middle of the replacement of its root, in which each kind of
// file is there that this package writes, and returns its directory.
func everythingWritten(t *testing.T) (string, *pki.Issuers) {
	t.Helper()
	ca, dir := newCA(t, pki.Config{})
	issuers := ca.Issuers()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	check(issuers.RotateJWT())
	_, _, err := issuers.RequestIssuer()
	check(err)
	next, err := pki.CreateNextRoot(dir, nil, pki.RootOptions{TrustDomain: domain, P384: true})
	check(err)
	cross, err := ca.Root().SignCross(next.Certificate())
	check(err)
	check(issuers.PrepareRoot(next.Certificate(), cross))
	list, err := ca.Root().SignCRL([]pki.Revocation{{Generation: 1, Certificate: issuers.Status()[0].Certificate, At: time.Now()}}, big.NewInt(1), time.Now().Add(time.Hour))
	check(err)
	check(os.WriteFile(filepath.Join(dir, "authority", "crl.pem"), pki.EncodeCRL(list), 0o644))
	_, err = issuers.IssueCredential(leafFor(t, "/service/ledger"), filepath.Join(dir, "credential.pem"))
	check(err)
	_, err = issuers.IssueFiles(leafFor(t, "/operator/alice"), filepath.Join(dir, "alice.crt"), filepath.Join(dir, "alice.key"))
	check(err)
	key, err := pki.NewKey()
	check(err)
	leaf := leafFor(t, "/join/host2")
	leaf.PublicKey = key.Public()
	chain, err := issuers.Issue(leaf)
	check(err)
	check(pki.WriteTicket(filepath.Join(dir, "ticket.pem"), chain, key, issuers.Bundle()))
	return dir, issuers
}

func TestEverythingThatIsWritten(t *testing.T) {
	t.Parallel()
	dir, issuers := everythingWritten(t)
	t.Run("is read by openssl", func(t *testing.T) { readByOpenSSL(t, dir) })
	t.Run("is told apart by inspect", func(t *testing.T) { toldApart(t, dir, issuers) })
}

func readByOpenSSL(t *testing.T, dir string) {
	t.Helper()
	requireOpenSSL(t)
	bundle := filepath.Join(dir, "authority", "bundle.pem")
	passphrases := map[string]string{"root": "root/passphrase", "root-next": "root-next/passphrase", "authority": "authority/credential"}
	seen := map[string]int{}
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(dir, path)
		half, _, _ := strings.Cut(filepath.ToSlash(name), "/")
		secret := "file:" + filepath.Join(dir, filepath.FromSlash(passphrases[half]))
		for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
			seen[block.Type]++
			switch block.Type {
			case "CERTIFICATE":
				one := filepath.Join(t.TempDir(), "one.pem")
				if err := os.WriteFile(one, pem.EncodeToMemory(block), 0o600); err != nil {
					return err
				}
				if text := openssl(t, "x509", "-in", one, "-noout", "-text"); !strings.Contains(text, "URI:spiffe://mesh.local") {
					t.Errorf("%s: openssl x509 -text shows no SPIFFE ID:\n%s", name, text)
				}
				openssl(t, "verify", "-x509_strict", "-CAfile", bundle, "-untrusted", path, one)
			case "ENCRYPTED PRIVATE KEY":
				openssl(t, "pkey", "-in", path, "-passin", secret, "-noout", "-check")
			case "PRIVATE KEY":
				openssl(t, "pkey", "-in", path, "-noout", "-check")
			case "PUBLIC KEY":
				openssl(t, "pkey", "-pubin", "-in", path, "-noout", "-text")
			case "CERTIFICATE REQUEST":
				text := openssl(t, "req", "-in", path, "-noout", "-text", "-verify")
				if !strings.Contains(text, "verify OK") {
					t.Errorf("%s: openssl req -verify says\n%s", name, text)
				}
			case "X509 CRL":
				if text := openssl(t, "crl", "-in", path, "-noout", "-text", "-CAfile", bundle); !strings.Contains(text, "verify OK") {
					t.Errorf("%s: openssl crl says\n%s", name, text)
				}
			default:
				t.Errorf("%s: a PEM block %q, which this test does not know", name, block.Type)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"CERTIFICATE", "CERTIFICATE REQUEST", "ENCRYPTED PRIVATE KEY", "PRIVATE KEY", "PUBLIC KEY", "X509 CRL"}
	if diff := cmp.Diff(want, slices.Sorted(maps.Keys(seen))); diff != "" {
		t.Errorf("kinds of blocks (-want +got):\n%s", diff)
	}
	t.Logf("openssl read %v", seen)
}

func toldApart(t *testing.T, dir string, issuers *pki.Issuers) {
	t.Helper()
	document := filepath.Join(dir, "bundle.json")
	data, err := pki.EncodeBundleDocument(issuers.Bundle(), issuers.JWTBundle(), 42, 5*time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	token, _, err := issuers.IssueJWT(leafFor(t, "/service/ledger").ID, []string{"orders"})
	if err != nil {
		t.Fatal(err)
	}
	for path, data := range map[string][]byte{document: data, filepath.Join(dir, "token"): []byte(token + "\n")} {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	now := time.Now()
	for _, c := range []struct {
		file string
		now  time.Time
		kind string
		want []string // the first is a problem if it starts with PROBLEM
	}{
		{"authority/cross.pem", now, "cross certificate", []string{"Subject        CN=root ", "signed by      CN=root "}},
		{"authority/crl.pem", now, "certificate revocation list (CRL)", []string{"number         1\n", "reason 2", "not verified"}},
		{"authority/crl.pem", now.Add(2 * time.Hour), "certificate revocation list (CRL)", []string{"PROBLEM        out of date"}},
		{"authority/jwt/0001.pem", now, "JWT key of an authority", []string{"key ID  ", "encrypted private key", "valid until"}},
		{"authority/issuers/0001.pem", now, "credential (a key with its chain)", []string{"issuer certificate"}},
		{"authority/issuers/0002.request.pem", now, "issuer that was asked for and not signed yet", []string{"issuer request (CSR)", "issuer 2", "spiffe://mesh.local\n"}},
		{"ticket.pem", now, "credential (a key with its chain)", []string{"spiffe://mesh.local/join/host2"}},
		{"bundle.json", now, "bundle document (SPIFFE, JWK set)", []string{"trust domain   mesh.local\n", "sequence       42\n", "refresh hint   5m0s\n", "ECDSA P-384", "JWT key  "}},
		{"token", now, "JWT-SVID", []string{"SPIFFE ID      spiffe://mesh.local/service/ledger\n", "audience       orders\n", "algorithm      ES256", "not verified"}},
		{"token", now.Add(time.Hour), "JWT-SVID", []string{"PROBLEM        expired at"}},
	} {
		got, err := pki.InspectFile(filepath.Join(dir, filepath.FromSlash(c.file)), c.now)
		if err != nil {
			t.Errorf("%s: %v", c.file, err)
			continue
		}
		var text bytes.Buffer
		if err := got.WriteText(&text); err != nil {
			t.Fatal(err)
		}
		if got.Kind != c.kind || got.OK() == strings.HasPrefix(c.want[0], "PROBLEM") {
			t.Errorf("%s: kind %q, OK %v; want %q:\n%s", c.file, got.Kind, got.OK(), c.kind, text.String())
		}
		for _, want := range c.want {
			if !strings.Contains(text.String(), want) {
				t.Errorf("%s: the text does not show %q:\n%s", c.file, want, text.String())
			}
		}
		if strings.Contains(text.String(), token) {
			t.Errorf("%s: the token itself is shown", c.file)
		}
	}
	if got, err := pki.Inspect([]byte(`{"keys":[],"keys":[]}`), now); err != nil || got.OK() || got.Kind != "bundle document (SPIFFE, JWK set)" {
		t.Errorf("a document with a member twice: %+v, %v; want a document with a problem", got, err)
	}
	for _, text := range []string{`{"version":1}`, "a.b.c", "{", "v1.2.3"} {
		if got, err := pki.Inspect([]byte(text), now); err == nil {
			t.Errorf("%q is taken for a %s", text, got.Kind)
		}
	}
}
