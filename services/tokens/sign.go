package tokens

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/cryptosigner"
)

// signer signs with ES256 and nothing else, under a header of alg, kid and typ and nothing else.
type signer struct {
	kid string
	key crypto.Signer
}

// newSigner takes a key on P-256, and finds it by its RFC 7638 thumbprint.
func newSigner(key crypto.Signer) (signer, error) {
	public, ok := key.Public().(*ecdsa.PublicKey)
	if !ok || public.Curve != elliptic.P256() {
		return signer{}, fmt.Errorf("a key of type %T: P-256 is needed; where certificates come from SPIRE, set workload_x509_svid_key_type to ec-p256", key.Public())
	}
	thumbprint, err := (&jose.JSONWebKey{Key: public}).Thumbprint(crypto.SHA256)
	if err != nil {
		return signer{}, fmt.Errorf("thumbprint of a key: %w", err)
	}
	return signer{kid: b64.EncodeToString(thumbprint), key: key}, nil
}

// jwk describes the public key (RFC 7517).
func (s signer) jwk() (json.RawMessage, error) {
	return json.Marshal(jose.JSONWebKey{Key: s.key.Public(), KeyID: s.kid, Algorithm: string(jose.ES256), Use: "sig"})
}

// sign returns a JWS in the compact form.
func (s signer) sign(typ string, payload []byte) (string, error) {
	options := (&jose.SignerOptions{}).WithType(jose.ContentType(typ)).WithHeader("kid", s.kid)
	signing, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: cryptosigner.Opaque(s.key)}, options)
	if err != nil {
		return "", fmt.Errorf("sign: %w", err)
	}
	signed, err := signing.Sign(payload)
	if err != nil {
		return "", errors.New("sign: the key does not sign") // whatever it says is not for others
	}
	return signed.CompactSerialize()
}
