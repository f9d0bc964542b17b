package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

const (
	bundleFile     = "bundle.pem"
	credentialFile = "credential"
	issuersDir     = "issuers"
	keptRetired    = 16 // certificates of retired issuers that stay on disk, for whoever looks into the past
	maxIssuers     = 64
)

// Issuers is the online half of a certificate authority: it signs leaves with whichever issuer is active, and needs no
// root key. Several processes may have the same directory open; each sees what changed when it calls Refresh. Safe for
// concurrent use.
type Issuers struct {
	dir string
	now func() time.Time

	refresh sync.Mutex // one Refresh or write at a time
	state   atomic.Pointer[issuersState]
}

// issuersState is immutable.
type issuersState struct {
	bundle  *x509bundle.Bundle
	roots   *x509.CertPool
	issuers []*Issuer            // by generation
	files   map[string]fileStamp // what was read: unchanged files are not decrypted again
}

type fileStamp struct {
	modified time.Time
	size     int64
}

// OpenIssuers reads an authority's directory (bundle.pem, credential, issuers/). Each key takes a fifth of a second to
// open. now is the wall clock if nil.
func OpenIssuers(dir string, now func() time.Time) (*Issuers, error) {
	s := &Issuers{dir: dir, now: clock(now)}
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

func (s *Issuers) load() error {
	next := &issuersState{roots: x509.NewCertPool(), files: map[string]fileStamp{}}
	var err error
	if next.bundle, err = ReadBundle(filepath.Join(s.dir, bundleFile)); err != nil {
		return fmt.Errorf("open authority: %w", err)
	}
	for _, root := range next.bundle.X509Authorities() {
		next.roots.AddCert(root)
	}
	paths, err := filepath.Glob(filepath.Join(s.dir, issuersDir, "[0-9]*.pem"))
	if err != nil {
		return fmt.Errorf("open authority: %w", err)
	}
	if len(paths) > maxIssuers {
		return fmt.Errorf("open authority: %d files in %s, at most %d are read", len(paths), filepath.Join(s.dir, issuersDir), maxIssuers)
	}
	for _, path := range paths {
		issuer, stamp, err := s.loadIssuer(path, next)
		if _, gone := os.Stat(path); errors.Is(gone, fs.ErrNotExist) {
			continue // another process removed a retired one meanwhile
		}
		if err != nil {
			return fmt.Errorf("open authority: %w", err)
		}
		next.issuers = append(next.issuers, issuer)
		next.files[path] = stamp
	}
	slices.SortFunc(next.issuers, func(a, b *Issuer) int { return a.Generation - b.Generation })
	s.state.Store(next)
	return nil
}

// loadIssuer reads one generation, or takes it from the last read if the file is the same.
func (s *Issuers) loadIssuer(path string, next *issuersState) (*Issuer, fileStamp, error) {
	generation, err := strconv.Atoi(strings.TrimSuffix(filepath.Base(path), ".pem"))
	if err != nil || generation < 1 {
		return nil, fileStamp{}, fmt.Errorf("%s: the name of an issuer's file is its generation, 0001.pem", path)
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, fileStamp{}, err
	}
	stamp := fileStamp{info.ModTime(), info.Size()}
	if last := s.state.Load(); last != nil && last.files[path] == stamp {
		for _, i := range last.issuers {
			if i.Generation == generation {
				return i, stamp, s.checkIssuer(path, i, next)
			}
		}
	}
	data, err := readSecret(path)
	if err != nil {
		return nil, stamp, err
	}
	certs, others, err := parseCertificates(data)
	if err != nil {
		return nil, stamp, fmt.Errorf("%s: %w", path, err)
	}
	if len(certs) != 1 {
		return nil, stamp, fmt.Errorf("%s holds %d certificates, exactly one is needed", path, len(certs))
	}
	issuer := &Issuer{Generation: generation, Certificate: certs[0]}
	if len(others) > 0 {
		if issuer.key, err = s.openKey(path, data, certs[0]); err != nil {
			return nil, stamp, err
		}
	}
	return issuer, stamp, s.checkIssuer(path, issuer, next)
}

func (s *Issuers) openKey(path string, data []byte, cert *x509.Certificate) (crypto.Signer, error) {
	credential, err := readSecret(filepath.Join(s.dir, credentialFile))
	if err != nil {
		return nil, fmt.Errorf("credential of the issuer keys: %w", err)
	}
	key, err := decryptKey(path, data, trimPassphrase(credential))
	if err != nil {
		return nil, err
	}
	if !key.PublicKey.Equal(cert.PublicKey.(*ecdsa.PublicKey)) {
		return nil, fmt.Errorf("%s: the key is not that of the certificate", path)
	}
	return key, nil
}

// checkIssuer holds a generation against the bundle. A retired one may be of a root that has left it.
func (s *Issuers) checkIssuer(path string, i *Issuer, next *issuersState) error {
	if i.key == nil {
		return nil
	}
	for _, root := range next.bundle.X509Authorities() {
		if i.Certificate.CheckSignatureFrom(root) == nil {
			if err := lintIssuer(i.Certificate, root); err != nil {
				return fmt.Errorf("%s: %w", path, err)
			}
			return nil
		}
	}
	return fmt.Errorf("%s: no root of the bundle signed this issuer", path)
}

// TrustDomain returns the trust domain of the bundle.
func (s *Issuers) TrustDomain() spiffeid.TrustDomain { return s.state.Load().bundle.TrustDomain() }

// Bundle returns the roots as a bundle of its own.
func (s *Issuers) Bundle() *x509bundle.Bundle { return s.state.Load().bundle.Clone() }

// Status returns every issuer on disk with its state at this moment, oldest generation first.
func (s *Issuers) Status() []IssuerStatus {
	list, _ := states(s.state.Load().issuers, s.now())
	return list
}

// Retire deletes the keys of issuers that have expired, and all but the latest 16 of their certificates. Any process that
// may write the directory may call it, as often as it likes.
func (s *Issuers) Retire() error {
	s.refresh.Lock()
	defer s.refresh.Unlock()
	state := s.state.Load()
	list, _ := states(state.issuers, s.now())
	var errs []error
	changed := false
	for n, status := range list {
		if status.State != Retired {
			continue
		}
		path := s.issuerPath(status.Generation)
		switch {
		case n < len(list)-keptRetired:
			if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				errs = append(errs, err)
			}
			changed = true
		case state.issuers[n].key != nil:
			errs = append(errs, writeFile(path, encodeCertificates(status.Certificate), 0o600))
			changed = true
		}
	}
	if !changed {
		return nil
	}
	if err := errors.Join(append(errs, s.load())...); err != nil {
		return fmt.Errorf("retire issuers: %w", err)
	}
	return nil
}

// add writes a new generation and reads the directory again.
func (s *Issuers) add(i *Issuer) error {
	credential, err := readSecret(filepath.Join(s.dir, credentialFile))
	if err != nil {
		return fmt.Errorf("credential of the issuer keys: %w", err)
	}
	key, err := encryptKey(i.key, trimPassphrase(credential))
	if err != nil {
		return err
	}
	data := append(encodeCertificates(i.Certificate), key...)
	path := s.issuerPath(i.Generation)
	if err := createFile(path, data, 0o600); err != nil {
		return fmt.Errorf("write issuer: %w", err)
	}
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("write issuer: %w", err)
	}
	s.refresh.Lock()
	defer s.refresh.Unlock()
	next := *s.state.Load()
	next.issuers = append(slices.Clone(next.issuers), i)
	next.files = maps.Clone(next.files)
	next.files[path] = fileStamp{info.ModTime(), info.Size()} // the key is known: load need not open it
	s.state.Store(&next)
	return s.load()
}

func (s *Issuers) issuerPath(generation int) string {
	return filepath.Join(s.dir, issuersDir, fmt.Sprintf("%04d.pem", generation))
}
