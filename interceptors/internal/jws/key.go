package jws

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"fmt"
	"math/big"
)

// Key verifies the signatures of one algorithm, and no other (RFC 8725 §3.1).
type Key struct {
	ID        string
	Algorithm string // ES256, ES384, RS256 or PS256
	Public    crypto.PublicKey
}

var errSignature = errors.New("the signature is not valid")

// NewKey checks that key and algorithm go together: the allow-list of both. Symmetric algorithms and "none" are not on it.
func NewKey(id, algorithm string, public crypto.PublicKey) (Key, error) {
	k := Key{id, algorithm, public}
	if id == "" || len(id) > maxKeyID {
		return Key{}, fmt.Errorf("a key identifier of 1 to %d bytes is needed", maxKeyID)
	}
	switch key := public.(type) {
	case *ecdsa.PublicKey:
		if algorithm == "ES256" && key.Curve == elliptic.P256() || algorithm == "ES384" && key.Curve == elliptic.P384() {
			return k, nil
		}
	case *rsa.PublicKey:
		// RFC 7518 §3.3 and §3.5: 2048 bits or more. The upper bound keeps a check cheap.
		if bits := key.N.BitLen(); bits < 2048 || bits > 8192 {
			return Key{}, fmt.Errorf("an RSA key of %d bits: 2048 to 8192 are accepted", bits)
		}
		if algorithm == "RS256" || algorithm == "PS256" {
			return k, nil
		}
	}
	return Key{}, fmt.Errorf("a %T with the algorithm %.40q is not accepted", public, algorithm)
}

func (k Key) samePublic(other Key) bool {
	public, ok := k.Public.(interface{ Equal(crypto.PublicKey) bool })
	return ok && public.Equal(other.Public)
}

func (k Key) verify(signed string, signature []byte) error {
	switch k.Algorithm {
	case "ES256":
		sum := sha256.Sum256([]byte(signed))
		return verifyECDSA(k.Public.(*ecdsa.PublicKey), sum[:], signature, 32)
	case "ES384":
		sum := sha512.Sum384([]byte(signed))
		return verifyECDSA(k.Public.(*ecdsa.PublicKey), sum[:], signature, 48)
	case "RS256":
		sum := sha256.Sum256([]byte(signed))
		if rsa.VerifyPKCS1v15(k.Public.(*rsa.PublicKey), crypto.SHA256, sum[:], signature) == nil {
			return nil
		}
	case "PS256":
		sum := sha256.Sum256([]byte(signed))
		// RFC 7518 §3.5: the salt is as long as the hash.
		if rsa.VerifyPSS(k.Public.(*rsa.PublicKey), crypto.SHA256, sum[:], signature, &rsa.PSSOptions{SaltLength: sha256.Size}) == nil {
			return nil
		}
	}
	return errSignature
}

// verifyECDSA checks a signature in the form of RFC 7518 §3.4: R and S, each of size octets.
func verifyECDSA(key *ecdsa.PublicKey, sum, signature []byte, size int) error {
	if len(signature) != 2*size {
		return errSignature
	}
	r, s := new(big.Int).SetBytes(signature[:size]), new(big.Int).SetBytes(signature[size:])
	if !ecdsa.Verify(key, sum, r, s) {
		return errSignature
	}
	return nil
}
