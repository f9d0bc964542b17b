package pki

import (
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"math/big"
)

// sign makes a certificate and reads it back, so that what is checked afterwards is what others will read.
func sign(template, parent *x509.Certificate, public crypto.PublicKey, key crypto.Signer) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// newSerial returns 128 random bits, never zero (RFC 5280 §4.1.2.2: positive, 20 octets at most).
func newSerial() *big.Int {
	bits := make([]byte, 16)
	for {
		_, _ = rand.Read(bits) // never fails (crypto/rand)
		if n := new(big.Int).SetBytes(bits); n.Sign() > 0 {
			return n
		}
	}
}

// keyID returns the key identifier of a public key: SHA-256 of the key's bits cut to 160 (RFC 7093 §2, method 1).
func keyID(public crypto.PublicKey) ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return nil, fmt.Errorf("encode public key: %w", err)
	}
	var spki struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}
	if err := unmarshal(der, &spki); err != nil {
		return nil, fmt.Errorf("encode public key: %w", err)
	}
	sum := sha256.Sum256(spki.Key.Bytes)
	return sum[:20], nil
}
