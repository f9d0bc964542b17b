package pki

import (
	"crypto"
	"encoding/base64"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/cryptosigner"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/spiffe/go-spiffe/v2/bundle/jwtbundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// Bounds of a JWT-SVID. It cannot be taken back once it is out, so it is short.
const (
	maxTokenLife = 5 * time.Minute
	tokensPerKey = 6 // a token lives a sixth of its key's life at most, as a leaf does of its issuer's
)

// Bounds of the audiences of one JWT-SVID.
const (
	MaxAudiences    = 8
	MaxAudienceSize = 512 // bytes of each
)

// IssueJWT signs a JWT-SVID (JWT-SVID §3) with the active JWT key: ES256, for one or more audiences. The token lives five
// minutes, or a sixth of its key's life if that is less. Whoever calls it has decided that the workload is entitled to id.
func (s *Issuers) IssueJWT(id spiffeid.ID, audience []string) (token string, expires time.Time, err error) {
	state, now := s.state.Load(), s.now()
	if td := state.bundle.TrustDomain(); id.TrustDomain() != td || id.Path() == "" {
		return "", time.Time{}, fmt.Errorf("issue JWT-SVID: %q is not the ID of a workload of the trust domain %s", id, td)
	}
	if err := checkAudience(audience); err != nil {
		return "", time.Time{}, fmt.Errorf("issue JWT-SVID for %s: %w", id, err)
	}
	key := state.jwt.active(now)
	if key == nil {
		return "", time.Time{}, fmt.Errorf("issue JWT-SVID for %s: no JWT key is valid; the authority makes one when it starts and every few seconds: see its log", id)
	}
	expires = now.Add(min(maxTokenLife, key.span()/tokensPerKey))
	if expires.After(key.notAfter) {
		expires = key.notAfter
	}
	expires = expires.UTC().Truncate(time.Second) // exp counts seconds (RFC 7519 §2, NumericDate)
	claims := jwt.Claims{Subject: id.String(), Audience: audience, Expiry: jwt.NewNumericDate(expires), IssuedAt: jwt.NewNumericDate(now)}
	token, err = jwt.Signed(key.signer).Claims(claims).Serialize()
	if err != nil {
		return "", time.Time{}, fmt.Errorf("issue JWT-SVID for %s: %w", id, err)
	}
	return token, expires, nil
}

// JWTBundle returns the public keys that verify the trust domain's JWT-SVIDs, by key ID: those that sign, those that will,
// and those that have signed and have not expired.
func (s *Issuers) JWTBundle() *jwtbundle.Bundle {
	state, now := s.state.Load(), s.now()
	keys := map[string]crypto.PublicKey{}
	for _, key := range state.jwt.keys {
		if now.Before(key.notAfter) {
			keys[key.id] = key.key.Public()
		}
	}
	return jwtbundle.FromJWTAuthorities(state.bundle.TrustDomain(), keys)
}

// checkAudience wants to know for whom a token is: one for nobody in particular is good everywhere (JWT-SVID §3.2).
func checkAudience(audience []string) error {
	if len(audience) == 0 || len(audience) > MaxAudiences {
		return fmt.Errorf("%d audiences: 1 to %d are accepted", len(audience), MaxAudiences)
	}
	for _, a := range audience {
		if a == "" || len(a) > MaxAudienceSize || !utf8.ValidString(a) {
			return fmt.Errorf("audience %.80q: 1 to %d bytes of UTF-8 are accepted", a, MaxAudienceSize)
		}
	}
	return nil
}

// tokenKeyID returns the ID (kid) of a JWT key: its thumbprint (RFC 7638), which no other key has.
func tokenKeyID(public crypto.PublicKey) (string, error) {
	key := jose.JSONWebKey{Key: public}
	thumbprint, err := key.Thumbprint(crypto.SHA256)
	if err != nil {
		return "", fmt.Errorf("ID of a JWT key: %w", err)
	}
	return base64.RawURLEncoding.EncodeToString(thumbprint), nil
}

// newTokenSigner returns what signs tokens with a key, and the key's ID.
func newTokenSigner(key crypto.Signer) (jose.Signer, string, error) {
	id, err := tokenKeyID(key.Public())
	if err != nil {
		return nil, "", err
	}
	signer, err := jose.NewSigner(
		jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: cryptosigner.Opaque(key), KeyID: id}},
		(&jose.SignerOptions{}).WithType("JWT")) // JWT-SVID §2.3: if set, JWT or JOSE
	if err != nil {
		return nil, "", errors.Join(errors.New("JWT key: only ECDSA on P-256 signs tokens"), err)
	}
	return signer, id, nil
}
