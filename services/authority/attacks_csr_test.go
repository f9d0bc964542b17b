package authority_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"strings"
	"testing"

	"google.golang.org/grpc/status"

	authorityv1 "example.com/rolecall/gen/authority/v1"
	"example.com/rolecall/internal/node"
)

// Kinds of names in a certificate, RFC 5280 §4.2.1.6.
const (
	dnsName = 2
	uriName = 6
)

func name(kind int, value string) asn1.RawValue {
	return asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: kind, Bytes: []byte(value)}
}

// names encodes a subject alternative name, whatever is in it.
func names(t *testing.T, of ...asn1.RawValue) pkix.Extension {
	t.Helper()
	value, err := asn1.Marshal(of)
	if err != nil {
		t.Fatal(err)
	}
	return pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Value: value}
}

// crafted makes a CSR of a template, as no client of ours would.
func crafted(t *testing.T, curve elliptic.Curve, template *x509.CertificateRequest) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// What package pki refuses in a CSR is refused through the RPC too, from a requester who may have the identity.
func TestAttacksInACSR(t *testing.T) {
	t.Parallel()
	var log logged
	r := open(t, func(c *node.Config) { c.Log = slog.New(slog.NewTextHandler(&log, nil)) })
	agent := r.caller(t, "/service/agent")
	const billing = "spiffe://mesh.local/service/billing"
	good := func() *x509.CertificateRequest {
		return &x509.CertificateRequest{URIs: []*url.URL{{Scheme: "spiffe", Host: "mesh.local", Path: "/service/billing"}}}
	}
	san := func(of ...asn1.RawValue) *x509.CertificateRequest {
		return &x509.CertificateRequest{ExtraExtensions: []pkix.Extension{names(t, of...)}}
	}
	broken := crafted(t, elliptic.P256(), good())
	broken[len(broken)-1] ^= 1
	rsa, err := os.ReadFile("../../pki/testdata/rsa1024.csr")
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(rsa)
	if block == nil {
		t.Fatal("no PEM in rsa1024.csr")
	}
	isCA := good()
	isCA.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 19}, Critical: true, Value: []byte{0x30, 3, 1, 1, 0xff}}}
	named := good()
	named.Subject = pkix.Name{CommonName: "spiffe://mesh.local/service/ledger"}
	sans := make([]string, 5000)
	for i := range sans {
		sans[i] = fmt.Sprintf("n%d.example.org", i)
	}
	thousands, many, twice := good(), good(), good()
	thousands.DNSNames, many.DNSNames, twice.DNSNames = sans, sans[:40], []string{"localhost", "localhost"}
	for _, c := range []struct {
		attack string
		csr    []byte
		says   string
	}{
		{"a bad self-signature", broken, "not signed by its own key"},
		{"RSA 1024", block.Bytes, "only ECDSA"},
		{"P-224", crafted(t, elliptic.P224(), good()), "only P-256 and P-384"},
		{"an extra extension, cA:TRUE", crafted(t, elliptic.P256(), isCA), "only the subject alternative name"},
		{"duplicate SANs", crafted(t, elliptic.P256(), twice), "occurs twice"},
		{"a SAN of someone else beside the own", crafted(t, elliptic.P256(), san(name(uriName, billing), name(uriName, "spiffe://mesh.local/service/ledger"))), "exactly one SPIFFE ID"},
		{"a SAN of another trust domain", crafted(t, elliptic.P256(), san(name(uriName, "spiffe://other.example/service/billing"))), "not of the trust domain"},
		{"a SAN of a sub-domain of the trust domain", crafted(t, elliptic.P256(), san(name(uriName, "spiffe://a.mesh.local/service/billing"))), "not of the trust domain"},
		{"a CN of someone else", crafted(t, elliptic.P256(), named), "must be empty"},
		{"1 MB", make([]byte, 1<<20), "16384 at most"},
		{"5,000 SANs", crafted(t, elliptic.P256(), thousands), "16384 at most"},
		{"as many SANs as the size allows", crafted(t, elliptic.P256(), many), "at most 32"},
		{"an embedded NUL in a DNS name", crafted(t, elliptic.P256(), san(name(uriName, billing), name(dnsName, "localhost\x00.evil.example"))), ""},
		{"an embedded NUL in the SPIFFE ID", crafted(t, elliptic.P256(), san(name(uriName, billing+"\x00/operator/alice"))), ""},
		{"an IPv6 zone", crafted(t, elliptic.P256(), san(name(uriName, billing), name(dnsName, "fe80::1%eth0"))), ""},
		{"no name at all", crafted(t, elliptic.P256(), &x509.CertificateRequest{}), "exactly one SPIFFE ID"},
	} {
		t.Run(c.attack, func(t *testing.T) {
			response, err := r.client(t, agent).IssueCertificate(within(t), &authorityv1.IssueCertificateRequest{Csr: c.csr})
			if got := verdict(err); got != "InvalidArgument INVALID_FIELD" || !strings.Contains(status.Convert(err).Message(), c.says) {
				t.Errorf("got %s (%v), want a refusal that says %q", got, err, c.says)
			}
			if len(response.GetChain()) > 0 || log.signatures() > 0 {
				t.Errorf("the authority signed: answered %v, and its log is\n%s", response, log.text())
			}
		})
	}
}
