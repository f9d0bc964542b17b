//go:build !race

package pki

import (
	"crypto/pbkdf2"
	"crypto/sha256"
)

// deriveKey is PBKDF2 with HMAC-SHA256 (RFC 8018 §5.2).
func deriveKey(passphrase, salt []byte, rounds int) ([]byte, error) {
	return pbkdf2.Key(sha256.New, string(passphrase), salt, rounds, keySize)
}
