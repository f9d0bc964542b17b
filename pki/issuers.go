package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

const (
	bundleFile     = "bundle.pem"
	crossFile      = "cross.pem"
	credentialFile = "credential"
	issuersDir     = "issuers"
	requestSuffix  = ".request.pem"
	keptRetired    = 16 // certificates of retired issuers that stay on disk, for whoever looks into the past
	maxIssuers     = 64
)

// Issuers is the online half of a certificate authority: it signs leaves with whichever issuer is active, and needs no
// root key. Several processes may have the same directory open; each sees what changed when it calls Refresh, and those
// that change something take turns. Safe for concurrent use.
type Issuers struct {
	dir        string
	credential string
	handed     bool // the credential is not in the directory: see readHandedSecret
	now        func() time.Time
	record     *recordLog
	owner      error // why this process must not write the directory, and so not sign: nothing leaves without a record

	refresh       sync.Mutex // one Refresh or write at a time
	state         atomic.Pointer[issuersState]
	revokedLeaves revokedLeaves
}

// issuersState is immutable.
type issuersState struct {
	stored   *storedState
	rotation Rotation
	bundle   *x509bundle.Bundle
	roots    *x509.CertPool
	cross    []*x509.Certificate  // of roots of the bundle, signed by roots of the bundle
	issuers  []*Issuer            // by generation
	files    map[string]fileStamp // what was read: unchanged files are not decrypted again
	jwt      jwtState
}

type fileStamp struct {
	modified time.Time
	size     int64
}

// IssuersOption is a choice for OpenIssuers.
type IssuersOption func(*Issuers)

// WithCredential takes what opens the keys of the issuers from this file instead of the credential in the directory, as
// systemd hands it to a service (LoadCredential=). Only its owner may read it; in systemd's folder, and for a file of root's
// elsewhere that is read by another user, its group may as well, as systemd has it on some systems.
func WithCredential(path string) IssuersOption {
	return func(s *Issuers) { s.credential, s.handed = path, true }
}

// OpenIssuers reads an authority's directory (bundle.pem, state.json, credential, issuers/). Each key takes a fifth of a
// second to open. now is the wall clock if nil.
func OpenIssuers(dir string, now func() time.Time, options ...IssuersOption) (*Issuers, error) {
	s := &Issuers{dir: dir, credential: filepath.Join(dir, credentialFile), now: clock(now), record: openRecord(dir)}
	for _, option := range options {
		option(s)
	}
	s.owner = checkOwner(dir)
	if err := s.Refresh(); err != nil {
		return nil, err
	}
	return s, nil
}

// Refresh reads the directory again. On an error what was read before stays in force.
func (s *Issuers) Refresh() error {
	s.refresh.Lock()
	defer s.refresh.Unlock()
	return s.load()
}

// TrustDomain returns the trust domain of the bundle.
func (s *Issuers) TrustDomain() spiffeid.TrustDomain { return s.state.Load().bundle.TrustDomain() }

// Bundle returns the roots as a bundle of its own. It is empty before the first issuer of an authority without a root at
// hand was imported.
func (s *Issuers) Bundle() *x509bundle.Bundle { return s.state.Load().bundle.Clone() }

// Status returns every issuer on disk with its state at this moment, oldest generation first.
func (s *Issuers) Status() []IssuerStatus {
	list, _ := states(s.state.Load().issuers, s.now())
	return list
}

// status returns one generation; false if it is not on disk.
func (s *Issuers) status(generation int) (IssuerStatus, bool) {
	for _, status := range s.Status() {
		if status.Generation == generation {
			return status, true
		}
	}
	return IssuerStatus{}, false
}

// sealKey encrypts an issuer's key with the credential.
func (s *Issuers) sealKey(key crypto.Signer) ([]byte, error) {
	credential, err := s.readCredential()
	if err != nil {
		return nil, err
	}
	return encryptKey(key, credential)
}

// openKey opens the key beside a certificate or a request that is over this public key.
func (s *Issuers) openKey(path string, data []byte, public crypto.PublicKey) (crypto.Signer, error) {
	credential, err := s.readCredential()
	if err != nil {
		return nil, err
	}
	key, err := decryptKey(path, data, credential)
	if err != nil {
		return nil, err
	}
	if want, ok := public.(*ecdsa.PublicKey); !ok || !key.PublicKey.Equal(want) {
		return nil, fmt.Errorf("%s: the key is not that of the certificate", path)
	}
	return key, nil
}

func (s *Issuers) readCredential() ([]byte, error) {
	read := readSecret
	if s.handed {
		read = readHandedSecret
	}
	credential, err := read(s.credential)
	if err != nil {
		return nil, fmt.Errorf("credential of the issuer keys: %w", err)
	}
	if credential = trimPassphrase(credential); len(credential) == 0 {
		return nil, fmt.Errorf("credential of the issuer keys: %s is empty", s.credential)
	}
	return credential, nil
}

func (s *Issuers) issuerPath(generation int) string {
	return filepath.Join(s.dir, issuersDir, fmt.Sprintf("%04d.pem", generation))
}

// Retire deletes the keys of issuers that have expired or were revoked, and of the expired ones all but the latest 16 of
// their certificates. Any process that may write the directory may call it, as often as it likes.
func (s *Issuers) Retire() error {
	if !s.retireDue() {
		return nil
	}
	if err := s.locked(s.retire); err != nil {
		return fmt.Errorf("retire issuers: %w", err)
	}
	return nil
}

// retireDue tells whether retire would write anything.
func (s *Issuers) retireDue() bool {
	state, now := s.state.Load(), s.now()
	for n, i := range state.issuers {
		if i.keyOnDisk && !i.usable(now) || s.forgettable(state, n, now) {
			return true
		}
	}
	return false
}

// forgettable tells that a generation has expired and that 16 later ones have been there since.
func (s *Issuers) forgettable(state *issuersState, n int, now time.Time) bool {
	return n < len(state.issuers)-keptRetired && !now.Before(state.issuers[n].Certificate.NotAfter)
}

// retire does the work of Retire under the lock.
func (s *Issuers) retire() error {
	state, now := s.state.Load(), s.now()
	var errs []error
	forgotten := map[int]bool{}
	for n, i := range state.issuers {
		switch {
		case s.forgettable(state, n, now):
			if err := os.Remove(s.issuerPath(i.Generation)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				errs = append(errs, err)
				continue
			}
			forgotten[i.Generation] = true
		case i.keyOnDisk && !i.usable(now):
			errs = append(errs, s.dropKey(i))
		}
	}
	if len(forgotten) > 0 {
		errs = append(errs, s.change(func(stored *storedState) {
			for generation := range forgotten {
				delete(stored.Activated, generation)
				delete(stored.Revoked, generation)
			}
		}))
	}
	return errors.Join(errs...)
}

// dropKey leaves of an issuer's file the certificate alone.
func (s *Issuers) dropKey(i *Issuer) error {
	return writeFile(s.issuerPath(i.Generation), encodeCertificates(i.Certificate), 0o600)
}
