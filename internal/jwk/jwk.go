// Package jwk describes public keys as JSON Web Keys (RFC 7517), those that sign with ES256 and no others.
package jwk

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"encoding/base64"
	"fmt"

	"github.com/go-jose/go-jose/v4"
)

// ES256 describes a key on P-256, whose kid is its RFC 7638 thumbprint. Any other key is an error that says where such a key
// may come from.
func ES256(key crypto.PublicKey) (jose.JSONWebKey, error) {
	public, ok := key.(*ecdsa.PublicKey)
	if !ok || public.Curve != elliptic.P256() {
		return jose.JSONWebKey{}, fmt.Errorf("a key of type %s: P-256 is needed; where certificates come from SPIRE, set workload_x509_svid_key_type to ec-p256", name(key))
	}
	thumbprint, err := (&jose.JSONWebKey{Key: public}).Thumbprint(crypto.SHA256)
	if err != nil {
		return jose.JSONWebKey{}, fmt.Errorf("thumbprint of a key: %w", err)
	}
	return jose.JSONWebKey{Key: public, KeyID: base64.RawURLEncoding.EncodeToString(thumbprint), Algorithm: string(jose.ES256), Use: "sig"}, nil
}

// name tells one key type from another, and one curve.
func name(key crypto.PublicKey) string {
	if public, ok := key.(*ecdsa.PublicKey); ok {
		return public.Curve.Params().Name
	}
	return fmt.Sprintf("%T", key)
}
