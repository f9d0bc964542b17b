package jws

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/asn1"
	"encoding/json"
	"fmt"
	"math/big"
)

// Signer signs tokens with ES256.
type Signer struct {
	id  string
	key crypto.Signer
}

// NewSigner takes a key on P-256, in memory or elsewhere, and its identifier.
func NewSigner(id string, key crypto.Signer) (*Signer, error) {
	if _, err := NewKey(id, "ES256", key.Public()); err != nil {
		return nil, fmt.Errorf("signing key: %w", err)
	}
	return &Signer{id, key}, nil
}

// KeyID returns the identifier that verifiers find the key by.
func (s *Signer) KeyID() string { return s.id }

// Sign returns the claims, anything that encodes as a JSON object, as a token of the type.
func (s *Signer) Sign(typ string, claims any) (string, error) {
	payload, err := json.Marshal(claims)
	if err != nil {
		return "", fmt.Errorf("encode claims: %w", err)
	}
	header, err := json.Marshal(struct {
		Algorithm string `json:"alg"`
		KeyID     string `json:"kid"`
		Type      string `json:"typ"`
	}{"ES256", s.id, typ})
	if err != nil {
		return "", fmt.Errorf("encode header: %w", err)
	}
	signed := encoding.EncodeToString(header) + "." + encoding.EncodeToString(payload)
	sum := sha256.Sum256([]byte(signed))
	der, err := s.key.Sign(rand.Reader, sum[:], crypto.SHA256)
	if err != nil {
		return "", fmt.Errorf("sign: %w", err)
	}
	var pair struct{ R, S *big.Int }
	if rest, err := asn1.Unmarshal(der, &pair); err != nil || len(rest) > 0 {
		return "", fmt.Errorf("sign: the key's signature is not ECDSA-Sig-Value")
	}
	var raw [64]byte
	pair.R.FillBytes(raw[:32])
	pair.S.FillBytes(raw[32:])
	return signed + "." + encoding.EncodeToString(raw[:]), nil
}

// Thumbprint returns the RFC 7638 thumbprint of a P-256 key: SHA-256 of its JWK, base64url.
func Thumbprint(key *ecdsa.PublicKey) (string, error) {
	jwk, err := jwkOf(key)
	if err != nil {
		return "", err
	}
	// RFC 7638 §3.2: the required members in lexicographic order, without white space.
	text := fmt.Sprintf(`{"crv":%q,"kty":"EC","x":%q,"y":%q}`, jwk.Curve, jwk.X, jwk.Y)
	sum := sha256.Sum256([]byte(text))
	return encoding.EncodeToString(sum[:]), nil
}

func jwkOf(key *ecdsa.PublicKey) (JWK, error) {
	if key.Curve != elliptic.P256() {
		return JWK{}, fmt.Errorf("a key on %s, P-256 is needed", key.Curve.Params().Name)
	}
	point, err := key.Bytes() // 4, x, y
	if err != nil {
		return JWK{}, err
	}
	return JWK{Type: "EC", Curve: "P-256", X: encoding.EncodeToString(point[1:33]), Y: encoding.EncodeToString(point[33:])}, nil
}
