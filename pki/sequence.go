package pki

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"maps"
	"slices"
	"time"
)

// Sequence returns the number of the bundle: of the roots, the keys of JWT-SVIDs and the revoked issuers. It grows with
// each change of them and never shrinks. 0: none was given yet. Read it before what it numbers: should something change
// in between, the higher number follows with the next read, and no number stands for something older than itself.
func (s *Issuers) Sequence() uint64 { return s.state.Load().stored.Sequence }

// BumpSequence gives the bundle a new number although nothing may have changed: the greater of one more than the last, and
// the seconds since 1970. An authority does so at each start, because the directory may have been restored from a backup
// whose number is lower than one that agents have seen.
func (s *Issuers) BumpSequence() error {
	return s.RaiseSequence(0)
}

// RaiseSequence is BumpSequence for whoever has given out a number that is no longer on disk, because the directory was put
// back to an older state: the new one is greater than that too.
func (s *Issuers) RaiseSequence(last uint64) error {
	err := s.locked(func() error { return s.number(s.contentDigest(), last) })
	if err != nil {
		return fmt.Errorf("number the bundle: %w", err)
	}
	return nil
}

// KeepSequence gives the bundle a new number if its content is not what the last number stands for: somebody changed a
// file by hand, or a key of JWT-SVIDs expired. The authority calls it after each Refresh, before it looks at the bundle.
func (s *Issuers) KeepSequence() error {
	if s.contentDigest() == s.state.Load().stored.BundleSHA256 {
		return nil
	}
	if err := s.locked(func() error { return nil }); err != nil {
		return fmt.Errorf("number the bundle: %w", err)
	}
	return nil
}

// numberContent does the work of KeepSequence under the lock.
func (s *Issuers) numberContent() error {
	content := s.contentDigest()
	if content == s.state.Load().stored.BundleSHA256 {
		return nil
	}
	if err := s.number(content, 0); err != nil {
		return err
	}
	return s.load()
}

func (s *Issuers) number(content Digest, last uint64) error {
	now := s.now().Unix()
	return s.change(func(stored *storedState) {
		stored.Sequence = max(stored.Sequence+1, last+1, uint64(max(now, 0)))
		stored.BundleSHA256 = content
	})
}

// contentDigest is the SHA-256 of all that verifiers go by, in an order of its own.
func (s *Issuers) contentDigest() Digest {
	var parts [][]byte
	add := func(kind string, data []byte) { parts = append(parts, append([]byte(kind), data...)) }
	for _, root := range s.state.Load().bundle.X509Authorities() {
		digest := certDigest(root)
		add("root", digest[:])
	}
	keys := s.JWTBundle().JWTAuthorities()
	for _, id := range slices.Sorted(maps.Keys(keys)) {
		der, err := x509.MarshalPKIXPublicKey(keys[id])
		if err != nil {
			der = nil // the key ID alone tells it from the others
		}
		add("jwt", append([]byte(id+"\x00"), der...))
	}
	for _, key := range s.revokedKeys(s.now()) {
		add("revoked", key[:])
	}
	slices.SortFunc(parts, bytes.Compare)
	hash := sha256.New()
	for _, part := range parts {
		fmt.Fprintf(hash, "%d\x00%s", len(part), part)
	}
	return Digest(hash.Sum(nil))
}

// revokedKeys returns the public keys of the revoked issuers that have not expired.
func (s *Issuers) revokedKeys(now time.Time) []Digest {
	var keys []Digest
	for _, r := range s.Revoked() {
		if now.Before(r.Certificate.NotAfter) {
			keys = append(keys, r.KeySHA256)
		}
	}
	return keys
}
