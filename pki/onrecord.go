package pki

import (
	"crypto/x509"
	"errors"
	"fmt"
	"sync"
	"time"
)

// recordLook is how long what was read of the record stands before it is read again for a leaf that is not in it: whoever
// shows such leaves one after the other must not keep the disk busy.
const recordLook = time.Second

// ErrNotOnRecord says that a certificate verifies and was not issued here.
var ErrNotOnRecord = errors.New("not on record: it was made elsewhere, with the issuer's key")

// revokedLeaves is what the record says of the leaves of revoked issuers. The zero value is empty. Safe for concurrent use.
type revokedLeaves struct {
	mu    sync.Mutex
	keys  map[string]string // SHA-256 of the leaf's public key, by serial number
	read  time.Time
	state Digest // of state.json when the record was read
}

// CheckOnRecord answers ErrNotOnRecord to a leaf under a revoked issuer, unless it was issued here: its serial number and
// its key must stand in the record. A thief of the issuer's key makes such leaves, and they must not be exchanged for others
// under the next issuer. Leaves under issuers that nobody revoked pass. Another error: the record cannot be read, and the
// leaf must not pass. leaf is one that was verified. Safe for concurrent use.
func (s *Issuers) CheckOnRecord(leaf *x509.Certificate) error {
	generation := s.revokedIssuerOf(leaf)
	if generation == 0 {
		return nil
	}
	serial := fmt.Sprintf("%x", leaf.SerialNumber)
	known, err := s.issuedHere(serial, keyDigest(leaf).String())
	switch {
	case err != nil:
		return fmt.Errorf("certificate %s of the revoked issuer %d: %w", serial, generation, err)
	case !known:
		return fmt.Errorf("certificate %s of the revoked issuer %d: %w", serial, generation, ErrNotOnRecord)
	}
	return nil
}

// revokedIssuerOf returns the generation of the revoked issuer that signed a leaf, 0 if none did. It goes by the signature
// alone: whoever has the key chooses what the leaf says about its issuer.
func (s *Issuers) revokedIssuerOf(leaf *x509.Certificate) int {
	now := s.now()
	for _, r := range s.Revoked() {
		if now.Before(r.Certificate.NotAfter) && leaf.CheckSignatureFrom(r.Certificate) == nil {
			return r.Generation
		}
	}
	return 0
}

// issuedHere looks a leaf up in what was read of the record, and reads it again if it is not there.
func (s *Issuers) issuedHere(serial, key string) (bool, error) {
	l := &s.revokedLeaves
	l.mu.Lock()
	defer l.mu.Unlock()
	stored, now := s.state.Load().stored, s.now()
	if l.keys[serial] == key {
		return true, nil
	}
	if age := now.Sub(l.read); l.keys != nil && l.state == stored.digest && age >= 0 && age < recordLook {
		return false, nil
	}
	records, err := s.LiveRecords(now)
	if err != nil {
		return false, err
	}
	l.keys, l.read, l.state = map[string]string{}, now, stored.digest
	for _, rec := range records {
		if _, revoked := stored.Revoked[rec.Generation]; revoked {
			l.keys[rec.Serial] = rec.KeySHA256
		}
	}
	return l.keys[serial] == key, nil
}
