package pki

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// leftOut names each lint of zlint that something we sign does not pass, and why that is so. None is a rule of an RFC:
// they are the rules of public certificate authorities, for web sites, which a private trust domain is not.
var leftOut = map[string]string{
	"e_ca_country_name_missing":                               "CA/Browser Forum: a country in the Subject; a trust domain is in none",
	"e_ext_san_uniform_resource_identifier_present":           "CA/Browser Forum: no URI names; the SPIFFE ID is one (X509-SVID §2)",
	"e_invalid_ca_certificate_policies":                       "CA/Browser Forum: its own policy IDs, which only its members may claim",
	"e_sub_ca_certificate_policies_missing":                   "CA/Browser Forum: certificate policies; RFC 5280 §4.2.1.4 leaves them open",
	"e_sub_ca_crl_distribution_points_missing":                "CA/Browser Forum: a URL of a CRL; issuers are short-lived and denied by key instead",
	"w_sub_ca_aia_missing":                                    "CA/Browser Forum: a URL to fetch the signer from; chains carry it, and nothing is fetched while connecting",
	"e_dnsname_not_valid_tld":                                 "CA/Browser Forum: public domain names only; localhost is what tools on the same machine check",
	"e_ext_san_contains_reserved_ip":                          "CA/Browser Forum: public addresses only; as localhost",
	"e_sub_cert_aia_missing":                                  "CA/Browser Forum: URLs of an OCSP responder; leaves live for a day at most",
	"e_sub_cert_cert_policy_empty":                            "CA/Browser Forum: certificate policies, as above",
	"e_sub_cert_certificate_policies_missing":                 "CA/Browser Forum: certificate policies, as above",
	"w_ext_subject_key_identifier_not_recommended_subscriber": "CA/Browser Forum: no subject key identifier in leaves; RFC 5280 §4.2.1.2 recommends one",
	"w_sub_cert_aia_does_not_contain_issuing_ca_url":          "CA/Browser Forum: a URL to fetch the issuer from, as above",
	"e_cab_crl_has_valid_reason_code":                         "CA/Browser Forum: no cACompromise in lists of leaves; ours lists issuers (RFC 5280 §5.3.1)",
}

// sourcesOfRFCs are those of which no lint may be left out. RFC 6960 is about OCSP responses, which nobody signs here.
const sourcesOfRFCs = "RFC3279,RFC5280,RFC5480,RFC5891,RFC6962,RFC8813"

type zlintResult map[string]struct{ Result, Details string }

// zlint runs the linter of that name on a PEM file. It is a tool of this repository, built on first use; where that cannot
// be (no network), the test is skipped, but not in CI.
func zlint(t *testing.T, path string, args ...string) zlintResult {
	t.Helper()
	cmd := exec.Command("go", append(append([]string{"tool", "-modfile=tools/go.mod", "zlint"}, args...), path)...)
	cmd.Dir = ".."
	var problems bytes.Buffer
	cmd.Stderr = &problems
	out, err := cmd.Output()
	var results zlintResult
	if err == nil {
		err = json.Unmarshal(out, &results)
	}
	if err != nil || len(results) == 0 {
		t.Fatalf("zlint %s: %v\n%s%s", path, err, problems.String(), out)
	}
	return results
}

func TestZlintFindsNoErrorOfAnRFC(t *testing.T) {
	t.Parallel()
	probe := exec.Command("go", "tool", "-modfile=tools/go.mod", "zlint", "-version")
	probe.Dir = ".."
	if out, err := probe.CombinedOutput(); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("zlint cannot be built, which CI must be able to: %v\n%s", err, out)
		}
		t.Skipf("zlint cannot be built: %v\n%s", err, out)
	}
	dir := t.TempDir()
	var mu sync.Mutex
	needed := map[string]bool{}
	t.Cleanup(func() {
		failed := t.Failed()
		for lint := range leftOut {
			if !failed && !needed[lint] {
				t.Errorf("%s passes everywhere: it need not be left out", lint)
			}
		}
	})
	for name, data := range signedSamples(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(dir, strings.ReplaceAll(name, " ", "-")+".pem")
			must(t, os.WriteFile(path, data, 0o600))
			rfc := zlint(t, path, "-includeSources", sourcesOfRFCs)
			passed := 0
			for lint, found := range rfc {
				switch found.Result {
				case "pass":
					passed++
				case "NA", "NE", "info":
				default:
					t.Errorf("%s: %s %s", lint, found.Result, found.Details)
				}
				if _, left := leftOut[lint]; left {
					t.Errorf("%s is a lint of an RFC, and is in the list of those that are left out", lint)
				}
			}
			t.Logf("%d lints of RFCs passed", passed)
			for lint, found := range zlint(t, path) {
				if found.Result != "error" && found.Result != "fatal" && found.Result != "warn" {
					continue
				}
				if leftOut[lint] == "" {
					t.Errorf("%s: %s %s; neither passed nor named with a reason", lint, found.Result, found.Details)
				}
				mu.Lock()
				needed[lint] = true
				mu.Unlock()
			}
		})
	}
}

// signedSamples returns one of each thing that a root or an issuer signs, in PEM.
func signedSamples(t *testing.T) map[string][]byte {
	t.Helper()
	p256, p384 := newSuccession(t, RootOptions{}), newSuccession(t, RootOptions{P384: true})
	issuers := memoryIssuers(t, nil)
	key, err := NewKey()
	must(t, err)
	leaf := Leaf{ID: workload(t, "/service/ledger"), PublicKey: key.Public(), DNSNames: []string{"localhost", "ledger.mesh.local"}, IPAddresses: loopback}
	chain, err := issuers.Issue(leaf)
	must(t, err)
	leaf.DNSNames, leaf.IPAddresses, leaf.Life = nil, nil, MinLeafLife
	short, err := issuers.Issue(leaf)
	must(t, err)
	list, err := p256.new.SignCRL([]Revocation{{Generation: 7, Certificate: p256.issuer, At: time.Now()}}, big.NewInt(1), time.Now().Add(time.Hour))
	must(t, err)
	pem := func(cert *x509.Certificate) []byte { return encodeCertificates(cert) }
	return map[string][]byte{
		"a leaf": pem(chain[0]), "a leaf of 15 seconds without further names": pem(short[0]), "an issuer": pem(chain[1]),
		"an issuer under P-384": pem(p384.issuer), "a cross certificate": pem(p256.cross), "a cross certificate to P-384": pem(p384.cross),
		"a root": pem(p256.old.cert), "a root on P-384": pem(p384.new.cert), "a CRL": EncodeCRL(list),
	}
}
