package pki

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
)

// Digest is a SHA-256. As text it is 64 hexadecimal digits in lower case, as `rolecall inspect` and roles.yaml have it.
type Digest [sha256.Size]byte

// IsZero tells that there is no digest.
func (d Digest) IsZero() bool { return d == Digest{} }

// String returns the digest as text; "" if it is zero.
func (d Digest) String() string {
	if d.IsZero() {
		return ""
	}
	return hex.EncodeToString(d[:])
}

// MarshalText returns the digest as text; "" if it is zero.
func (d Digest) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (d *Digest) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*d = Digest{}
		return nil
	}
	if len(text) != hex.EncodedLen(len(d)) {
		return fmt.Errorf("SHA-256 %.80q: %d hexadecimal digits are needed", text, hex.EncodedLen(len(d)))
	}
	if _, err := hex.Decode(d[:], text); err != nil {
		return fmt.Errorf("SHA-256 %.80q: %w", text, err)
	}
	return nil
}

// keyDigest is the SHA-256 of a certificate's SubjectPublicKeyInfo: what denied in roles.yaml takes as keySha256.
func keyDigest(cert *x509.Certificate) Digest { return sha256.Sum256(cert.RawSubjectPublicKeyInfo) }

// certDigest is the SHA-256 of a certificate in DER: how roots are told apart.
func certDigest(cert *x509.Certificate) Digest { return sha256.Sum256(cert.Raw) }
