package pki

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// MaxCSR is the size of the largest request that is read, in bytes.
const MaxCSR = 16 << 10

var oidExtensionRequest = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 14}

// Request is what a CSR asks for, after the gate. Nothing else of a CSR can reach a certificate.
type Request struct {
	PublicKey   crypto.PublicKey
	ID          spiffeid.ID
	DNSNames    []string
	IPAddresses []net.IP
}

// NewCSR makes a request for a certificate over key: what the agent sends to the authority.
func NewCSR(key crypto.Signer, id spiffeid.ID, dns []string, ips []net.IP) ([]byte, error) {
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		URIs: []*url.URL{id.URL()}, DNSNames: dns, IPAddresses: ips,
	}, key)
	if err != nil {
		return nil, fmt.Errorf("make CSR for %s: %w", id, err)
	}
	return der, nil
}

// ReadCSR is the gate: it reads a PKCS#10 request in DER and refuses, with the reason, whatever is not exactly a good
// key, a good signature by it, one SPIFFE ID of the trust domain, and DNS names and IP addresses that could be a
// workload's. Who may have these names is for the caller to decide.
func ReadCSR(der []byte, td spiffeid.TrustDomain) (*Request, error) {
	if len(der) > MaxCSR {
		return nil, fmt.Errorf("CSR of %d bytes: %d at most are read", len(der), MaxCSR)
	}
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return nil, fmt.Errorf("not a PKCS#10 request in DER: %w", err)
	}
	if err := checkKeyType(csr.PublicKey); err != nil {
		return nil, err
	}
	switch csr.SignatureAlgorithm {
	case x509.ECDSAWithSHA256, x509.ECDSAWithSHA384, x509.ECDSAWithSHA512:
	default:
		return nil, fmt.Errorf("signature algorithm %s: ECDSA with SHA-256, SHA-384 or SHA-512 is needed", csr.SignatureAlgorithm)
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, fmt.Errorf("the CSR is not signed by its own key: %w", err)
	}
	if subject := csr.Subject.String(); subject != "" {
		return nil, fmt.Errorf("the Subject %.80q must be empty: the SPIFFE ID is the only identity", subject)
	}
	if err := checkAttributes(csr); err != nil {
		return nil, err
	}
	return requestedNames(csr, td)
}

// checkAttributes lets one extension request pass that holds one subject alternative name, and no other attribute.
func checkAttributes(csr *x509.CertificateRequest) error {
	var info struct {
		Raw        asn1.RawContent
		Version    int
		Subject    asn1.RawValue
		PublicKey  asn1.RawValue
		Attributes []asn1.RawValue `asn1:"tag:0"`
	}
	if err := unmarshal(csr.RawTBSCertificateRequest, &info); err != nil {
		return fmt.Errorf("attributes of the CSR: %w", err)
	}
	if len(info.Attributes) > 1 {
		return fmt.Errorf("the CSR has %d attributes: one extension request is accepted", len(info.Attributes))
	}
	for _, raw := range info.Attributes {
		var attribute struct {
			ID     asn1.ObjectIdentifier
			Values []asn1.RawValue `asn1:"set"`
		}
		if err := unmarshal(raw.FullBytes, &attribute); err != nil {
			return fmt.Errorf("attribute of the CSR: %w", err)
		}
		if !attribute.ID.Equal(oidExtensionRequest) || len(attribute.Values) != 1 {
			return fmt.Errorf("attribute %v of the CSR: one extension request is accepted, nothing else", attribute.ID)
		}
	}
	for n, e := range csr.Extensions {
		if !e.Id.Equal(oidSubjectAltName) {
			return fmt.Errorf("the CSR asks for extension %v: only the subject alternative name is accepted", e.Id)
		}
		if n > 0 {
			return errors.New("the CSR has the subject alternative name twice")
		}
		if err := checkNameKinds(e); err != nil {
			return err
		}
	}
	return nil
}

// checkNameKinds refuses kinds of names that Go's parser passes over in silence: a name nobody looked at.
func checkNameKinds(san pkix.Extension) error {
	var names []asn1.RawValue
	if err := unmarshal(san.Value, &names); err != nil {
		return fmt.Errorf("subject alternative name: %w", err)
	}
	const dns, uri, ip = 2, 6, 7 // GeneralName, RFC 5280 §4.2.1.6
	for _, name := range names {
		if name.Class != asn1.ClassContextSpecific || (name.Tag != dns && name.Tag != uri && name.Tag != ip) {
			return fmt.Errorf("alternative name of kind %d: only URI, DNS and IP names are accepted", name.Tag)
		}
	}
	return nil
}

func requestedNames(csr *x509.CertificateRequest, td spiffeid.TrustDomain) (*Request, error) {
	if len(csr.URIs) != 1 {
		return nil, fmt.Errorf("the CSR has %d URI names: exactly one SPIFFE ID is needed", len(csr.URIs))
	}
	uri := csr.URIs[0].String()
	id, err := spiffeid.FromString(uri)
	if err != nil {
		return nil, fmt.Errorf("URI name %.300q: %w", uri, err)
	}
	if id.TrustDomain() != td {
		return nil, fmt.Errorf("%s is not of the trust domain %s", id, td)
	}
	if id.Path() == "" {
		return nil, fmt.Errorf("SPIFFE ID %s has no path: it names the trust domain, not a workload", id)
	}
	for _, name := range csr.DNSNames {
		if strings.ContainsRune(name, 0) {
			return nil, fmt.Errorf("DNS name %q holds a zero byte", name)
		}
	}
	if err := checkNames(csr.DNSNames, csr.IPAddresses); err != nil {
		return nil, err
	}
	return &Request{PublicKey: csr.PublicKey, ID: id, DNSNames: csr.DNSNames, IPAddresses: csr.IPAddresses}, nil
}
