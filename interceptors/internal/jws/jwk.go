package jws

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"slices"
)

// maxKeys bounds a key set.
const maxKeys = 64

// JWK is a public key as JSON (RFC 7517), with the members that we write.
type JWK struct {
	Type      string `json:"kty"`
	Curve     string `json:"crv,omitempty"`
	X         string `json:"x,omitempty"`
	Y         string `json:"y,omitempty"`
	ID        string `json:"kid"`
	Algorithm string `json:"alg"`
	Use       string `json:"use,omitempty"`
}

// NewJWK describes a P-256 key that verifies ES256.
func NewJWK(id string, key *ecdsa.PublicKey) (JWK, error) {
	jwk, err := jwkOf(key)
	jwk.ID, jwk.Algorithm, jwk.Use = id, "ES256", "sig"
	return jwk, err
}

// ParseKeySet reads a JWK set and returns the keys that sign, by their identifiers. A key of a kind that is not accepted, or
// for encryption, is passed over, as RFC 7517 §5 says; a private or symmetric key, and two of one identifier, are errors:
// such a set comes from somebody who does not know what he does.
func ParseKeySet(data []byte) (map[string]Key, error) {
	set, err := ParseObject(data)
	if err != nil {
		return nil, fmt.Errorf("key set: %w", err)
	}
	return set.KeySet()
}

// KeySet returns the keys of an object that is a JWK set, among whatever else it is. See ParseKeySet.
func (o Object) KeySet() (map[string]Key, error) {
	var raws []json.RawMessage
	if err := json.Unmarshal(o["keys"], &raws); err != nil || raws == nil {
		return nil, errors.New("key set: keys is not an array")
	}
	if len(raws) > maxKeys {
		return nil, fmt.Errorf("key set: %d keys, %d at most", len(raws), maxKeys)
	}
	keys := map[string]Key{}
	for i, raw := range raws {
		jwk, err := ParseObject(raw)
		if err != nil {
			return nil, fmt.Errorf("key set: key %d: %w", i+1, err)
		}
		for _, secret := range []string{"d", "k", "p", "q", "dp", "dq", "qi", "oth"} {
			if jwk.Has(secret) {
				return nil, fmt.Errorf("key set: key %d is not a public one: the member %q", i+1, secret)
			}
		}
		if use, err := jwk.String("use"); jwk.Has("use") && (err != nil || use != "sig") {
			continue
		}
		if uses, err := jwk.Strings("key_ops"); jwk.Has("key_ops") && (err != nil || !slices.Contains(uses, "verify")) {
			continue
		}
		key, err := keyOf(jwk)
		if err != nil {
			continue
		}
		if _, twice := keys[key.ID]; twice {
			return nil, fmt.Errorf("key set: two keys have the identifier %.40q", key.ID)
		}
		for _, other := range keys {
			// RFC 8725 §3.1: a key is used with one algorithm.
			if other.Algorithm != key.Algorithm && other.samePublic(key) {
				return nil, fmt.Errorf("key set: one key is there for %s and for %s", other.Algorithm, key.Algorithm)
			}
		}
		keys[key.ID] = key
	}
	return keys, nil
}

func keyOf(jwk Object) (Key, error) {
	id, err := jwk.String("kid")
	if err != nil {
		return Key{}, err
	}
	kind, err := jwk.String("kty")
	if err != nil {
		return Key{}, err
	}
	var public crypto.PublicKey
	algorithm := ""
	switch kind {
	case "EC":
		public, algorithm, err = ecKey(jwk)
	case "RSA":
		public, err = rsaKey(jwk)
		algorithm = "RS256"
	default:
		err = fmt.Errorf("key type %.40q", kind)
	}
	if err != nil {
		return Key{}, err
	}
	if jwk.Has("alg") {
		if algorithm, err = jwk.String("alg"); err != nil {
			return Key{}, err
		}
	}
	return NewKey(id, algorithm, public)
}

func ecKey(jwk Object) (crypto.PublicKey, string, error) {
	name, err := jwk.String("crv")
	if err != nil {
		return nil, "", err
	}
	curve, algorithm, size := elliptic.P256(), "ES256", 32
	switch name {
	case "P-256":
	case "P-384":
		curve, algorithm, size = elliptic.P384(), "ES384", 48
	default:
		return nil, "", fmt.Errorf("curve %.40q", name)
	}
	point := []byte{4} // uncompressed, SEC 1 §2.3.3
	for _, member := range []string{"x", "y"} {
		octets, err := jwk.octets(member)
		if err != nil || len(octets) != size {
			return nil, "", fmt.Errorf("%s is not %d octets in base64url", member, size)
		}
		point = append(point, octets...)
	}
	key, err := ecdsa.ParseUncompressedPublicKey(curve, point) // refuses a point that is not on the curve
	return key, algorithm, err
}

func rsaKey(jwk Object) (crypto.PublicKey, error) {
	n, err := jwk.octets("n")
	if err != nil {
		return nil, err
	}
	e, err := jwk.octets("e")
	if err != nil || len(e) > 4 {
		return nil, errors.New("e is not a public exponent")
	}
	exponent := new(big.Int).SetBytes(e).Int64()
	if exponent < 3 || exponent%2 == 0 || exponent > 1<<31-1 {
		return nil, errors.New("e is not a public exponent")
	}
	return &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(exponent)}, nil
}

// octets returns a member that is base64url without padding.
func (o Object) octets(key string) ([]byte, error) {
	text, err := o.String(key)
	if err != nil {
		return nil, err
	}
	return encoding.DecodeString(text)
}
