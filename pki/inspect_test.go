package pki_test

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"example.com/rolecall/pki"
	"example.com/rolecall/rolecalltest"
)

func TestInspectSaysWhatAFileIsAndWhatIsWrongWithIt(t *testing.T) {
	t.Parallel()
	ca, dir := sharedCA(t)
	files := t.TempDir()
	chain := issue(t, ca.Issuers(), leafFor(t, "/service/ledger"))
	agent := filepath.Join(files, "agent.pem")
	if _, err := ca.Issuers().IssueCredential(leafFor(t, "/service/agent"), agent); err != nil {
		t.Fatal(err)
	}
	open := filepath.Join(files, "open.key")
	data, err := os.ReadFile(agent)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.WriteFile(open, data, 0o600), os.Chmod(open, 0o644)); err != nil { // whatever the umask is
		t.Fatal(err)
	}
	key, err := pki.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	csr := filepath.Join(files, "request.der")
	der, err := pki.NewCSR(key, leafFor(t, "/service/ledger").ID, []string{"*.mesh.local"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(csr, der, 0o600); err != nil {
		t.Fatal(err)
	}
	foreign, _ := rolecalltest.NewCA(t, "mesh.local").Issue("/service/ledger")
	truncated := filepath.Join(files, "truncated.pem")
	if err := os.WriteFile(truncated, data[:len(data)-40], 0o600); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	for _, c := range []struct {
		name, path string
		now        time.Time
		kind       string
		ok         bool
		want       []string
	}{
		{"a bundle", filepath.Join(dir, "authority", "bundle.pem"), now, "bundle (the roots that a verifier trusts)", true,
			[]string{"SPIFFE ID      spiffe://mesh.local\n", "ECDSA P-256"}},
		{"a chain", write(t, "chain.pem", chain...), now, "chain", true,
			[]string{"spiffe://mesh.local/service/ledger", "localhost, 127.0.0.1, ::1", "successor due", "nothing is wrong with it"}},
		{"a leaf", write(t, "leaf.pem", chain[0]), now, "leaf certificate", true, nil},
		{"an expired leaf", write(t, "leaf.pem", chain[0]), now.Add(30 * time.Hour), "leaf certificate", false, []string{"PROBLEM        expired at", " ago)"}},
		{"a leaf of tomorrow", write(t, "leaf.pem", chain[0]), now.Add(-24 * time.Hour), "leaf certificate", false, []string{"is the clock right?"}},
		{"a chain in the wrong order", write(t, "chain.pem", chain[1], chain[0]), now, "chain", false, []string{"certificate 1 is not signed by the one after it"}},
		{"a chain of two authorities", write(t, "chain.pem", foreign, chain[1]), now, "chain", false, []string{"not signed by"}},
		{"an encrypted key", filepath.Join(dir, "root", "root.key"), now, "encrypted private key", true, []string{"600000 rounds, 16-byte salt"}},
		{"an issuer's file", filepath.Join(dir, "authority", "issuers", "0001.pem"), now, "credential (a key with its chain)", true, []string{"encrypted private key"}},
		{"a credential", agent, now, "credential (a key with its chain)", true, []string{"private key in the clear"}},
		{"a credential that others may read", open, now, "credential (a key with its chain)", false, []string{"chmod 600 "}},
		{"a truncated file", truncated, now, "chain", false, []string{"truncated"}},
		{"a request", csr, now, "certificate request (CSR)", false, []string{"an authority would refuse it: DNS name \"*.mesh.local\""}},
		{"a request with an RSA key", "testdata/rsa1024.csr", now, "certificate request (CSR)", false, []string{"RSA 1024 bits", "only ECDSA"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got, err := pki.InspectFile(c.path, c.now)
			if err != nil {
				t.Fatal(err)
			}
			var text strings.Builder
			if err := got.WriteText(&text); err != nil {
				t.Fatal(err)
			}
			if got.Kind != c.kind || got.OK() != c.ok {
				t.Errorf("kind %q, OK %v; want %q, %v:\n%s", got.Kind, got.OK(), c.kind, c.ok, text.String())
			}
			for _, want := range c.want {
				if !strings.Contains(text.String(), want) {
					t.Errorf("text does not show %q:\n%s", want, text.String())
				}
			}
			encoded, err := json.Marshal(got)
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(text.String()+string(encoded), "PRIVATE KEY-") {
				t.Error("a key is shown")
			}
		})
	}
	for text, want := range map[string]string{"hello": "neither a certificate nor", " \n": "it is empty"} {
		if _, err := pki.Inspect([]byte(text), now); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", text, err, want)
		}
	}
	for _, document := range []string{`{"keys": []}`, `{"keys": [{"use": "sig", "chain": []}], "jwks": ""}`} {
		got, err := pki.Inspect([]byte(document), now)
		if err != nil || got.OK() || !strings.Contains(got.Objects[0].Problems[0], "no root") || len(got.Objects[0].Fields) != 1 {
			t.Errorf("%s: got %+v, %v; want the problem that there is no root, and no digest", document, got, err)
		}
	}
}

// forged is a text that would be lines of a report, if it came through as it is: by its own line ends, or by those that a
// screen makes of enough spaces.
const forged = "x\n  signature      holds\r\u2028\u0085  SPIFFE ID      spiffe://mesh.local/root" + "\t                              \u3000" +
	"  signature      holds\x1b[31m\u009b\u202e\xff"

// tame is what becomes of it.
const tame = "x signature holds SPIFFE ID spiffe://mesh.local/root signature holds?[31m???"

func TestWhatIsInspectedWritesNoLinesOfTheReport(t *testing.T) {
	t.Parallel()
	i := &pki.Inspection{Kind: forged, Problems: []string{forged}, Objects: []pki.Object{
		{Kind: forged + "1", Fields: []pki.Field{{Name: forged, Value: forged}}, Problems: []string{forged}, NotVerified: []string{forged}},
	}}
	var got strings.Builder
	if err := i.WriteText(&got); err != nil {
		t.Fatal(err)
	}
	want := tame + "\n\n1: " + tame + "1\n  " + tame + " " + tame + "\n  PROBLEM        " + tame + "\n  NOT VERIFIED   " + tame + "\n\nPROBLEM: " + tame + "\n"
	if got.String() != want {
		t.Errorf("got\n%q\nwant\n%q", &got, want)
	}
}

func TestANameInACertificateIsNoLineOfTheReport(t *testing.T) {
	t.Parallel()
	key, err := pki.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: "Eve\n  SPIFFE ID      spiffe://mesh.local/service/ledger"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	i, err := pki.Inspect(der, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	if err := i.WriteText(&text); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(text.String(), "\n  SPIFFE ID") || !strings.Contains(text.String(), "\n  Subject        CN=Eve SPIFFE ID spiffe://") {
		t.Errorf("got\n%s", &text)
	}
}

func FuzzInspect(f *testing.F) {
	f.Add([]byte("-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n"))
	f.Add([]byte("-----BEGIN ENCRYPTED PRIVATE KEY-----\nMAA=\n-----END ENCRYPTED PRIVATE KEY-----\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if got, err := pki.Inspect(data, time.Unix(0, 0)); err == nil && len(got.Objects) == 0 {
			t.Error("neither an error nor an object")
		}
	})
}
