package pki

import (
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
)

const (
	pemCRL = "X509 CRL"

	// reasonCACompromise is CRLReason cACompromise (RFC 5280 §5.3.1): an issuer is revoked because others have its key, or
	// may have it. The reason in words stays in state.json.
	reasonCACompromise = 2
	maxCRLNumber       = 159 // bits; 20 octets at most (RFC 5280 §5.2.3)
)

// SignCRL signs a certificate revocation list (RFC 5280 §5) of the issuers that this root signed and an operator revoked,
// for verifiers that are no part of the mesh: it returns DER. Issuers of another root are left out, since only that root
// can revoke them; if that leaves none of the given ones, it is an error. number must be larger than that of the list
// before, and next, by when there will be another list, lie ahead.
func (r *Root) SignCRL(revoked []Revocation, number *big.Int, next time.Time) ([]byte, error) {
	now := r.now().UTC()
	switch {
	case number == nil || number.Sign() <= 0 || number.BitLen() > maxCRLNumber:
		return nil, errors.New("sign CRL: its number must be positive and have 20 octets at most")
	case !next.After(now):
		return nil, fmt.Errorf("sign CRL: the next one is due at %s, which is past", next.Format(time.RFC3339))
	case !now.Before(r.cert.NotAfter):
		return nil, fmt.Errorf("sign CRL: the root %s expired at %s: nobody checks certificates against it any more", r.cert.Subject, r.cert.NotAfter.Format(time.RFC3339))
	}
	template := &x509.RevocationList{Number: number, ThisUpdate: now.Truncate(time.Second), NextUpdate: next.UTC().Truncate(time.Second)}
	for _, issuer := range revoked {
		if issuer.Certificate == nil || issuer.Certificate.CheckSignatureFrom(r.cert) != nil {
			continue
		}
		template.RevokedCertificateEntries = append(template.RevokedCertificateEntries, x509.RevocationListEntry{
			SerialNumber: issuer.Certificate.SerialNumber, RevocationTime: issuer.At.UTC().Truncate(time.Second), ReasonCode: reasonCACompromise})
	}
	if len(revoked) > 0 && len(template.RevokedCertificateEntries) == 0 {
		return nil, fmt.Errorf("sign CRL: none of the %d revoked issuers was signed by the root %s; use the root that signed them", len(revoked), r.cert.Subject)
	}
	der, err := x509.CreateRevocationList(rand.Reader, template, r.cert, r.key)
	if err != nil {
		return nil, fmt.Errorf("sign CRL: %w", err)
	}
	list, err := x509.ParseRevocationList(der)
	if err == nil {
		err = list.CheckSignatureFrom(r.cert)
	}
	if err != nil {
		return nil, fmt.Errorf("signed CRL does not fit the profile, which is a defect of this program: %w", err)
	}
	return der, nil
}

// EncodeCRL returns a CRL in DER as PEM, as `openssl crl -in` and `openssl verify -CRLfile` read it.
func EncodeCRL(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: pemCRL, Bytes: der})
}

// ReadCRL reads what EncodeCRL wrote from a file, and checks that a root of the bundle signed it. Whether it is of today is
// for the caller to see: NextUpdate tells.
func ReadCRL(path string, bundle *x509bundle.Bundle) (*x509.RevocationList, error) {
	data, err := readFile(path)
	if err != nil {
		return nil, fmt.Errorf("read CRL: %w", err)
	}
	block, rest := pem.Decode(data)
	if block == nil || block.Type != pemCRL || len(rest) > 0 {
		return nil, fmt.Errorf("read CRL %s: one PEM block %q is needed", path, pemCRL)
	}
	list, err := x509.ParseRevocationList(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("read CRL %s: %w", path, err)
	}
	for _, root := range bundle.X509Authorities() {
		if list.CheckSignatureFrom(root) == nil {
			return list, nil
		}
	}
	return nil, fmt.Errorf("read CRL %s: no root of the bundle signed it", path)
}
