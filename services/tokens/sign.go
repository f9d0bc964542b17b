package tokens

import (
	"crypto"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/cryptosigner"

	"example.com/rolecall/internal/jwk"
)

// signer signs with ES256 and nothing else, under a header of alg, kid and typ and nothing else.
type signer struct {
	kid    string
	public jose.JSONWebKey
	key    crypto.Signer
}

// newSigner takes a key on P-256, and finds it by its RFC 7638 thumbprint.
func newSigner(key crypto.Signer) (signer, error) {
	public, err := jwk.ES256(key.Public())
	if err != nil {
		return signer{}, err
	}
	return signer{kid: public.KeyID, public: public, key: key}, nil
}

// jwk describes the public key (RFC 7517).
func (s signer) jwk() (json.RawMessage, error) {
	return json.Marshal(s.public)
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
