//go:build race

package pki

import (
	"bytes"
	"crypto/pbkdf2"
	"crypto/sha256"
	"encoding/binary"
	"sync"
)

// derived holds the last keys: with the race detector, which only tests have, one takes a second and not a tenth, and tests
// derive the same ones again and again.
var derived struct {
	mu    sync.Mutex
	keys  map[[sha256.Size]byte][]byte
	order [][sha256.Size]byte
}

const maxDerived = 4096

// deriveKey is PBKDF2 with HMAC-SHA256 (RFC 8018 §5.2), remembered.
func deriveKey(passphrase, salt []byte, rounds int) ([]byte, error) {
	input := binary.BigEndian.AppendUint64(nil, uint64(rounds))
	input = append(binary.BigEndian.AppendUint64(input, uint64(len(salt))), salt...)
	name := sha256.Sum256(append(input, passphrase...))
	derived.mu.Lock()
	key, ok := derived.keys[name]
	derived.mu.Unlock()
	if ok {
		return bytes.Clone(key), nil
	}
	key, err := pbkdf2.Key(sha256.New, string(passphrase), salt, rounds, keySize)
	if err != nil {
		return nil, err
	}
	derived.mu.Lock()
	defer derived.mu.Unlock()
	if derived.keys == nil {
		derived.keys = map[[sha256.Size]byte][]byte{}
	}
	if len(derived.order) == maxDerived {
		delete(derived.keys, derived.order[0])
		derived.order = derived.order[1:]
	}
	derived.keys[name], derived.order = bytes.Clone(key), append(derived.order, name)
	return key, nil
}
