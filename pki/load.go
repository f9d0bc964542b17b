package pki

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
)

// load reads the directory into a new state. It takes no lock on the files: whoever writes leaves files that go together
// at every moment, except for the decisions in state.json, which are read before and after.
func (s *Issuers) load() error {
	const attempts = 5
	for range attempts {
		before, err := s.readState()
		if err != nil {
			return fmt.Errorf("open authority: %w", err)
		}
		next, err := s.build(before)
		if err != nil {
			return fmt.Errorf("open authority: %w", err)
		}
		after, err := s.readState()
		if err != nil {
			return fmt.Errorf("open authority: %w", err)
		}
		if before.digest == after.digest {
			if err := s.loadJWT(next); err != nil {
				return fmt.Errorf("open authority: %w", err)
			}
			s.state.Store(next)
			return nil
		}
	}
	return fmt.Errorf("open authority: %s changed %d times while it was read; try again", filepath.Join(s.dir, stateFile), attempts)
}

// build reads everything but state.json.
func (s *Issuers) build(stored *storedState) (*issuersState, error) {
	next := &issuersState{stored: stored, roots: x509.NewCertPool(), files: map[string]fileStamp{}}
	var err error
	if next.rotation, err = stored.Rotation.read(); err != nil {
		return nil, err
	}
	next.bundle, err = ReadBundle(filepath.Join(s.dir, bundleFile))
	if errors.Is(err, fs.ErrNotExist) && !stored.TrustDomain.IsZero() {
		next.bundle, err = x509bundle.New(stored.TrustDomain), nil
	}
	if err != nil {
		return nil, err
	}
	if td := next.bundle.TrustDomain(); !stored.TrustDomain.IsZero() && td != stored.TrustDomain {
		return nil, fmt.Errorf("%s holds roots of the trust domain %s, and this is the authority of %s; put the right bundle there",
			filepath.Join(s.dir, bundleFile), td, stored.TrustDomain)
	}
	for _, root := range next.bundle.X509Authorities() {
		next.roots.AddCert(root)
	}
	if next.cross, err = s.readCross(next.bundle.X509Authorities()); err != nil {
		return nil, err
	}
	return next, errors.Join(s.readIssuers(next), s.loadJWT(next))
}

// readCross returns the cross certificates between roots of the bundle. Others are left over from a rotation whose last
// step was interrupted.
func (s *Issuers) readCross(roots []*x509.Certificate) ([]*x509.Certificate, error) {
	certs, err := readCertificates(filepath.Join(s.dir, crossFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var out []*x509.Certificate
	for _, cert := range certs {
		for _, subject := range roots {
			if !bytes.Equal(subject.RawSubject, cert.RawSubject) {
				continue
			}
			for _, signer := range roots {
				if !signer.Equal(subject) && lintCross(cert, subject, signer) == nil {
					out = append(out, cert)
				}
			}
		}
	}
	return out, nil
}

func (s *Issuers) readIssuers(next *issuersState) error {
	paths, err := s.issuerFiles()
	if err != nil {
		return err
	}
	for _, path := range paths {
		issuer, stamp, err := s.loadIssuer(path, next)
		if _, gone := os.Stat(path); errors.Is(gone, fs.ErrNotExist) {
			continue // another process removed a retired one meanwhile
		}
		if err != nil {
			return err
		}
		next.issuers = append(next.issuers, issuer)
		next.files[path] = stamp
	}
	slices.SortFunc(next.issuers, byGeneration)
	return nil
}

// issuerFiles returns the paths of the generations, but not of requests.
func (s *Issuers) issuerFiles() ([]string, error) {
	paths, err := filepath.Glob(filepath.Join(s.dir, issuersDir, "[0-9]*.pem"))
	if err != nil {
		return nil, err
	}
	paths = slices.DeleteFunc(paths, func(path string) bool { return strings.HasSuffix(path, requestSuffix) })
	if len(paths) > maxIssuers {
		return nil, fmt.Errorf("%d files in %s, at most %d are read", len(paths), filepath.Join(s.dir, issuersDir), maxIssuers)
	}
	return paths, nil
}

// loadIssuer reads one generation, or takes it from the last read if the file is the same, and places it in the state.
func (s *Issuers) loadIssuer(path string, next *issuersState) (*Issuer, fileStamp, error) {
	generation, err := generationOf(path, ".pem")
	if err != nil {
		return nil, fileStamp{}, err
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, fileStamp{}, err
	}
	stamp := fileStamp{info.ModTime(), info.Size()}
	_, revoked := next.stored.Revoked[generation]
	issuer := s.lastRead(path, stamp, generation)
	if issuer == nil || issuer.revoked != revoked {
		if issuer, err = s.readIssuer(path, generation, revoked); err != nil {
			return nil, stamp, err
		}
	}
	placed := *issuer
	placed.revoked = revoked
	placed.activated = next.stored.Activated[generation]
	return &placed, stamp, placed.place(path, next)
}

func (s *Issuers) lastRead(path string, stamp fileStamp, generation int) *Issuer {
	last := s.state.Load()
	if last == nil || last.files[path] != stamp {
		return nil
	}
	for _, i := range last.issuers {
		if i.Generation == generation {
			return i
		}
	}
	return nil
}

// readIssuer reads the certificate, and the key unless it was revoked: then nothing opens it again.
func (s *Issuers) readIssuer(path string, generation int, revoked bool) (*Issuer, error) {
	data, err := readSecret(path)
	if err != nil {
		return nil, err
	}
	certs, others, err := parseCertificates(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if len(certs) != 1 {
		return nil, fmt.Errorf("%s holds %d certificates, exactly one is needed", path, len(certs))
	}
	issuer := &Issuer{Generation: generation, Certificate: certs[0], keyOnDisk: len(others) > 0}
	if issuer.keyOnDisk && !revoked {
		if issuer.key, err = s.openKey(path, data, certs[0].PublicKey); err != nil {
			return nil, err
		}
	}
	return issuer, nil
}

// place finds the issuer's root in the bundle, and what follows from it. One that has no key any more may be of a root
// that has left.
func (i *Issuer) place(path string, next *issuersState) error {
	i.root, i.cross, i.standing = signerOf(i.Certificate, next.bundle.X509Authorities()), nil, current
	switch {
	case i.root == nil && i.key == nil:
		return nil
	case i.root == nil:
		return fmt.Errorf("%s: no root of the bundle signed this issuer; put its root back into %s", path, bundleFile)
	case i.key != nil:
		if err := lintIssuer(i.Certificate, i.root); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	i.standing = next.rotation.standing(i.root)
	for _, cross := range next.cross {
		if bytes.Equal(cross.RawSubject, i.root.RawSubject) && bytes.Equal(cross.RawSubjectPublicKeyInfo, i.root.RawSubjectPublicKeyInfo) {
			i.cross = append(i.cross, cross)
		}
	}
	return nil
}

// generationOf reads the generation from the name of an issuer's file.
func generationOf(path, suffix string) (int, error) {
	generation, err := strconv.Atoi(strings.TrimSuffix(filepath.Base(path), suffix))
	if err != nil || generation < 1 {
		return 0, fmt.Errorf("%s: the name of an issuer's file is its generation, 0001%s", path, suffix)
	}
	return generation, nil
}
