package pki_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"example.com/rolecall/pki"
)

func TestANewAuthorityLiesInTwoHalvesAndIsOpenedAgain(t *testing.T) {
	t.Parallel()
	ca, dir := createCA(t, pki.Config{})
	var files []string
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(dir, path)
		if runtime.GOOS == "windows" {
			files = append(files, filepath.ToSlash(name))
			return nil
		}
		files = append(files, info.Mode().String()+" "+name)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"drwx------ .", "drwx------ authority", "-rw-r--r-- authority/bundle.pem", "-rw------- authority/credential",
		"drwx------ authority/issuers", "-rw------- authority/issuers/0001.pem", "-rw------- authority/lock",
		"-rw------- authority/state.json",
		"drwx------ root", "-rw------- root/passphrase", "-rw-r--r-- root/root.crt", "-rw------- root/root.key",
	}
	if runtime.GOOS != "windows" {
		if diff := cmp.Diff(want, files); diff != "" {
			t.Errorf("files (-want +got):\n%s", diff)
		}
	}

	again, created, err := pki.OpenOrCreate(dir, pki.Config{TrustDomain: domain})
	if err != nil || created {
		t.Fatalf("second OpenOrCreate: created %v, error %v", created, err)
	}
	if !again.Root().Certificate().Equal(ca.Root().Certificate()) {
		t.Error("the second OpenOrCreate has another root")
	}
	if got := len(again.Issuers().Status()); got != 1 {
		t.Errorf("%d issuers after the second OpenOrCreate, want 1", got)
	}
	if _, err := pki.OpenRoot(filepath.Join(dir, "root"), []byte("not it")); !errors.Is(err, pki.ErrPassphrase) {
		t.Errorf("wrong passphrase: %v, want ErrPassphrase", err)
	}
}

func TestTheAuthorityHalfSignsWithoutTheRoot(t *testing.T) {
	t.Parallel()
	issuers, err := pki.OpenIssuers(copyOfAuthority(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	issue(t, issuers, leafFor(t, "/service/ledger"))
}

func TestAnotherTrustDomainIsNotOpened(t *testing.T) {
	t.Parallel()
	_, dir := sharedCA(t)
	_, _, err := pki.OpenOrCreate(dir, pki.Config{TrustDomain: spiffeid.RequireTrustDomainFromString("other.local")})
	if err == nil || !strings.Contains(err.Error(), "mesh.local") {
		t.Errorf("got %v, want an error that names the trust domain found", err)
	}
}

func TestARootIsNeverOverwritten(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "root")
	options := pki.RootOptions{TrustDomain: domain, P384: true}
	root, err := pki.CreateRoot(dir, []byte("correct horse"), options)
	if err != nil {
		t.Fatal(err)
	}
	if key := root.Certificate().PublicKey.(*ecdsa.PublicKey); key.Curve != elliptic.P384() {
		t.Errorf("root key on %s, want P-384", key.Curve.Params().Name)
	}
	if _, err := pki.CreateRoot(dir, []byte("correct horse"), options); err == nil {
		t.Error("a second root was written over the first")
	}
	left, err := filepath.Glob(filepath.Join(filepath.Dir(dir), ".*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %q (error %v)", left, err)
	}
}

func TestLivesThatDoNotGoTogetherAreRefused(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name         string
		leaf, issuer time.Duration
		want         string // "" for accepted
	}{
		{"the defaults", pki.DefaultLeafLife, pki.DefaultIssuerLife, ""},
		{"exactly a sixth", 30 * time.Second, 3 * time.Minute, ""},
		{"the shortest leaf", pki.MinLeafLife, 90 * time.Second, ""},
		{"a leaf that is too short", 14 * time.Second, time.Hour, "15s at least"},
		{"more than a sixth", 31 * time.Second, 3 * time.Minute, "issuers of 3m6s at least"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			err := pki.CheckLives(c.leaf, c.issuer)
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("CheckLives(%s, %s) = %v, want %q", c.leaf, c.issuer, err, c.want)
			}
		})
	}
}

func TestOpenSSLAcceptsTheChainAndReadsTheRootKey(t *testing.T) {
	t.Parallel()
	ca, dir := sharedCA(t)
	chain := issue(t, ca.Issuers(), leafFor(t, "/service/ledger"))
	bundle := filepath.Join(dir, "authority", "bundle.pem")
	leaf, issuer := write(t, "leaf.pem", chain[0]), write(t, "issuer.pem", chain[1])

	openssl(t, "verify", "-x509_strict", "-CAfile", bundle, "-untrusted", issuer, "-purpose", "sslserver", "-verify_hostname", "localhost", leaf)
	openssl(t, "verify", "-x509_strict", "-CAfile", bundle, "-untrusted", issuer, "-purpose", "sslclient", leaf)
	openssl(t, "pkey", "-in", filepath.Join(dir, "root", "root.key"), "-passin", "file:"+filepath.Join(dir, "root", "passphrase"), "-noout")
	openssl(t, "pkey", "-in", filepath.Join(dir, "authority", "issuers", "0001.pem"), "-passin", "file:"+filepath.Join(dir, "authority", "credential"), "-noout")
	info := openssl(t, "asn1parse", "-in", filepath.Join(dir, "root", "root.key"))
	for _, want := range []string{":PBES2", ":PBKDF2", "INTEGER           :0927C0", ":hmacWithSHA256", ":aes-256-cbc"} {
		if !strings.Contains(info, want) {
			t.Errorf("openssl asn1parse of root.key does not show %q:\n%s", want, info)
		}
	}

	for _, c := range []struct {
		name, path string
		want       []string
	}{
		{"root", bundle, []string{"CA:TRUE", "Certificate Sign, CRL Sign", "URI:spiffe://mesh.local\n", "NIST CURVE: P-256"}},
		{"issuer", issuer, []string{"CA:TRUE, pathlen:0", "X509v3 Name Constraints: critical", "URI:mesh.local", "X509v3 Key Usage: critical"}},
		{"leaf", leaf, []string{"Subject: \n", "X509v3 Key Usage: critical\n                Digital Signature\n", "CA:FALSE",
			"X509v3 Subject Alternative Name: critical\n                DNS:localhost, IP Address:127.0.0.1, IP Address:0:0:0:0:0:0:0:1, URI:spiffe://mesh.local/service/ledger",
			"TLS Web Server Authentication, TLS Web Client Authentication"}},
	} {
		text := openssl(t, "x509", "-in", c.path, "-noout", "-text")
		for _, want := range c.want {
			if !strings.Contains(text, want) {
				t.Errorf("openssl x509 -text of the %s does not show %q:\n%s", c.name, want, text)
			}
		}
	}
}

func TestFilesOfATool(t *testing.T) {
	t.Parallel()
	ca, _ := sharedCA(t)
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "alice.crt"), filepath.Join(dir, "alice.key")
	leaf := pki.Leaf{ID: spiffeid.RequireFromPath(domain, "/operator/alice")}
	first, err := ca.Issuers().IssueFiles(leaf, cert, key)
	if err != nil {
		t.Fatal(err)
	}
	keyBefore, err := os.ReadFile(key)
	if err != nil {
		t.Fatal(err)
	}
	second, err := ca.Issuers().IssueFiles(leaf, cert, key)
	if err != nil {
		t.Fatal(err)
	}
	keyAfter, err := os.ReadFile(key)
	if err != nil {
		t.Fatal(err)
	}
	if string(keyBefore) != string(keyAfter) || first[0].Equal(second[0]) {
		t.Error("a renewal must keep the key and replace the certificate")
	}

	path := filepath.Join(dir, "agent.pem")
	chain, err := ca.Issuers().IssueCredential(pki.Leaf{ID: spiffeid.RequireFromPath(domain, "/service/agent")}, path)
	if err != nil {
		t.Fatal(err)
	}
	svid, err := pki.ReadCredential(path)
	if err != nil {
		t.Fatal(err)
	}
	if svid.ID.Path() != "/service/agent" || !svid.Certificates[0].Equal(chain[0]) {
		t.Errorf("read back %s, want the credential that was written", svid.ID)
	}
	if runtime.GOOS != "windows" {
		if err := os.Chmod(path, 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := pki.ReadCredential(path); err == nil || !strings.Contains(err.Error(), "chmod 600") {
			t.Errorf("mode 0644: %v, want a refusal with the chmod that repairs it", err)
		}
	}
}
