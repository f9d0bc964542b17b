package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

const (
	organization  = "rolecall"
	minIssuerLife = leavesPerIssuer * MinLeafLife
	maxIssuerLife = 90 * 24 * time.Hour // what lives longer is a second root whose key is online
	maxGeneration = 1_000_000
)

// issuerRequest is what the CSR of an issuer says, after it was checked.
type issuerRequest struct {
	public     *ecdsa.PublicKey
	generation int
}

// SignIssuerCSR is the offline side: it checks the CSR (DER) that `rolecall pki issuer csr` made, and signs an issuer of
// this life (90 s to 90 days; 7 days if zero) over its key. Nothing else of the CSR gets into the certificate. It ends
// with the root at the latest.
func (r *Root) SignIssuerCSR(csr []byte, life time.Duration) (*x509.Certificate, error) {
	if life == 0 {
		life = DefaultIssuerLife
	}
	if life < minIssuerLife || life > maxIssuerLife {
		return nil, fmt.Errorf("sign issuer: a life of %s: %s to %s are accepted", life, minIssuerLife, maxIssuerLife)
	}
	request, err := readIssuerCSR(csr, r.TrustDomain())
	if err != nil {
		return nil, fmt.Errorf("sign issuer: %w", err)
	}
	return r.SignIssuer(request.public, request.generation, life)
}

// issuerName is the common name of an issuer, which no other has.
func issuerName(generation int, public crypto.PublicKey) (string, error) {
	id, err := keyID(public)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("issuer %d %x", generation, id[:4]), nil
}

// newIssuerCSR asks for the issuer of a generation.
func newIssuerCSR(key crypto.Signer, generation int, td spiffeid.TrustDomain) ([]byte, error) {
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: pkix.Name{Organization: []string{organization}, CommonName: fmt.Sprintf("issuer %d", generation)},
		URIs:    []*url.URL{td.ID().URL()},
	}, key)
	if err != nil {
		return nil, fmt.Errorf("make CSR of issuer %d: %w", generation, err)
	}
	return der, nil
}

// readIssuerCSR reads the CSR of an issuer and refuses whatever is not exactly what newIssuerCSR makes for this trust
// domain.
func readIssuerCSR(der []byte, td spiffeid.TrustDomain) (*issuerRequest, error) {
	if len(der) > MaxCSR {
		return nil, fmt.Errorf("CSR of %d bytes: %d at most are read", len(der), MaxCSR)
	}
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return nil, fmt.Errorf("not a PKCS#10 request in DER: %w", err)
	}
	public, ok := csr.PublicKey.(*ecdsa.PublicKey)
	if !ok || public.Curve != elliptic.P256() {
		return nil, errors.New("the key of an issuer must be ECDSA on P-256")
	}
	if csr.SignatureAlgorithm != x509.ECDSAWithSHA256 {
		return nil, fmt.Errorf("signature algorithm %s: ECDSA with SHA-256 is needed", csr.SignatureAlgorithm)
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, fmt.Errorf("the CSR is not signed by its own key: %w", err)
	}
	generation, err := requestedGeneration(csr)
	if err != nil {
		return nil, err
	}
	if err := checkAttributes(csr); err != nil {
		return nil, err
	}
	if len(csr.URIs) != 1 || len(csr.DNSNames)+len(csr.IPAddresses)+len(csr.EmailAddresses) > 0 {
		return nil, errors.New("the CSR of an issuer names one trust domain (spiffe://NAME) and nothing else")
	}
	id, err := spiffeid.FromURI(csr.URIs[0])
	switch {
	case err != nil:
		return nil, fmt.Errorf("URI name %.300q: %w", csr.URIs[0], err)
	case id.TrustDomain() != td:
		return nil, fmt.Errorf("the CSR is for an issuer of the trust domain %s, not of %s; use the root of that trust domain", id.TrustDomain(), td)
	case id.Path() != "":
		return nil, fmt.Errorf("%s is a workload, not a trust domain; its certificate is made with: rolecall pki issue --csr", id)
	}
	return &issuerRequest{public: public, generation: generation}, nil
}

// requestedGeneration reads the Subject "O=rolecall, CN=issuer N".
func requestedGeneration(csr *x509.CertificateRequest) (int, error) {
	number, ok := strings.CutPrefix(csr.Subject.CommonName, "issuer ")
	generation, err := strconv.Atoi(number)
	if ok && err == nil && generation > 0 && generation <= maxGeneration {
		want := pkix.Name{Organization: []string{organization}, CommonName: fmt.Sprintf("issuer %d", generation)}
		if csr.Subject.String() == want.String() {
			return generation, nil
		}
	}
	return 0, fmt.Errorf("the Subject %.80q is not that of an issuer's request; make one with: rolecall pki issuer csr", csr.Subject.String())
}
