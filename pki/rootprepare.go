package pki

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// PrepareRoot brings a new root into the bundle, beside the one that signs now. cross is the cross certificate that the
// old root signed (Root.SignCross); nil if the old root's key is lost or it has expired. After a crash the same call
// completes the step. While PREPARED, another new root takes the place of one that has no issuer.
func (s *Issuers) PrepareRoot(newRoot, cross *x509.Certificate) error {
	err := s.locked(func() error {
		old, err := s.checkNewRoot(newRoot)
		if err != nil {
			return err
		}
		if cross != nil {
			if err := lintCross(cross, newRoot, old); err != nil {
				return fmt.Errorf("cross certificate: it %w; make it with the old root's key", err)
			}
		}
		return s.prepareRoot(old, newRoot, cross)
	})
	if err != nil {
		return fmt.Errorf("prepare root: %w", err)
	}
	return nil
}

// checkNewRoot tells whether a root can take over, and from which.
func (s *Issuers) checkNewRoot(newRoot *x509.Certificate) (old *x509.Certificate, err error) {
	state, now := s.state.Load(), s.now()
	if err := lintRoot(newRoot); err != nil {
		return nil, fmt.Errorf("%q %w; make a root with: rolecall pki init", newRoot.Subject, err)
	}
	td, _ := trustDomainOf(newRoot) // lintRoot made sure
	switch {
	case td != state.bundle.TrustDomain():
		return nil, fmt.Errorf("%s is for the trust domain %s, not for %s; a trust domain keeps its name for life", newRoot.Subject, td, state.bundle.TrustDomain())
	case !now.Before(newRoot.NotAfter):
		return nil, fmt.Errorf("%s expired at %s; make another root: rolecall pki init", newRoot.Subject, utc(newRoot.NotAfter))
	}
	switch r := state.rotation; {
	case r.Phase == RotationActivated && !newRoot.Equal(r.New):
		return nil, fmt.Errorf("the replacement by %s is under way; first retire the old root: rolecall pki root rotate retire --ca %s", r.New.Subject, quote(s.dir))
	case r.Phase == RotationActivated:
		return nil, fmt.Errorf("%s is activated already; next: rolecall pki root rotate retire --ca %s", newRoot.Subject, quote(s.dir))
	case r.Phase == RotationPrepared && !newRoot.Equal(r.New):
		if err := s.checkUnused(r.New); err != nil {
			return nil, err
		}
		old = r.Old
	case r.Phase == RotationPrepared:
		old = r.Old
	default:
		if old = s.signingRoot(newRoot); old == nil {
			return nil, errors.New("the bundle holds no other root that could be replaced")
		}
	}
	for _, root := range state.bundle.X509Authorities() {
		switch {
		case root.Equal(newRoot):
		case bytes.Equal(root.RawSubjectPublicKeyInfo, newRoot.RawSubjectPublicKeyInfo):
			return nil, fmt.Errorf("%s has the key of a root that is in the bundle; make one with a key of its own: rolecall pki init", newRoot.Subject)
		case bytes.Equal(root.RawSubject, newRoot.RawSubject):
			return nil, fmt.Errorf("%s has the Subject of a root that is in the bundle, which would confuse chains", newRoot.Subject)
		case !root.Equal(old) && !root.Equal(state.rotation.New) && s.checkUnused(root) == nil:
			return nil, fmt.Errorf("%s is in the bundle and nothing was ever signed under it, as a preparation leaves it that was cut off; complete that one with the same root, or take it out of %s",
				root.Subject, filepath.Join(s.dir, bundleFile))
		}
	}
	return old, nil
}

// checkUnused tells whether a prepared root can leave again: nothing was ever signed under it.
func (s *Issuers) checkUnused(root *x509.Certificate) error {
	for _, i := range s.state.Load().issuers {
		if i.root != nil && i.root.Equal(root) {
			return fmt.Errorf("%s is prepared and has issuer %d; go on with: rolecall pki root rotate activate --ca %s", root.Subject, i.Generation, quote(s.dir))
		}
	}
	return nil
}

// signingRoot is the root that signs now, other than the new one: that of the active issuer, or of the newest.
func (s *Issuers) signingRoot(newRoot *x509.Certificate) *x509.Certificate {
	state := s.state.Load()
	if active := activeIssuer(state.issuers, s.now()); active != nil && !active.root.Equal(newRoot) {
		return active.root
	}
	for n := len(state.issuers) - 1; n >= 0; n-- {
		if root := state.issuers[n].root; root != nil && !root.Equal(newRoot) {
			return root
		}
	}
	for _, root := range state.bundle.X509Authorities() {
		if !root.Equal(newRoot) {
			return root
		}
	}
	return nil
}

// prepareRoot writes the files. state.json comes last: until then the step has not been taken, and can be repeated.
func (s *Issuers) prepareRoot(old, newRoot, cross *x509.Certificate) error {
	state := s.state.Load()
	if r := state.rotation; r.Phase == RotationPrepared && !r.New.Equal(newRoot) {
		if err := s.withdraw(state); err != nil {
			return err
		}
		state = s.state.Load()
	}
	if cross == nil && !s.HasCross() { // there may be one for another root, of an attempt that was cut off
		if err := remove(filepath.Join(s.dir, crossFile)); err != nil {
			return err
		}
	}
	if cross != nil {
		if err := writeFile(filepath.Join(s.dir, crossFile), encodeCertificates(cross), 0o644); err != nil {
			return err
		}
	}
	if roots := state.bundle.X509Authorities(); checkBundledRoot(newRoot, roots) != nil {
		if err := s.writeRoots(append(roots[:len(roots):len(roots)], newRoot)); err != nil {
			return err
		}
	}
	if state.rotation.Phase == RotationPrepared {
		return nil
	}
	return s.change(func(stored *storedState) {
		stored.Rotation = &storedRotation{Phase: RotationPrepared, PreparedAt: s.now().UTC(),
			OldSHA256: certDigest(old), NewSHA256: certDigest(newRoot), Old: old.Raw, New: newRoot.Raw}
	})
}

// withdraw takes a prepared root back, under which nothing was ever signed.
func (s *Issuers) withdraw(state *issuersState) error {
	if err := remove(filepath.Join(s.dir, crossFile)); err != nil {
		return err
	}
	if err := s.writeRoots(without(state.bundle.X509Authorities(), state.rotation.New)); err != nil {
		return err
	}
	if err := s.change(func(stored *storedState) { stored.Rotation = nil }); err != nil {
		return err
	}
	return s.load()
}

// writeRoots replaces the bundle, if these roots make one.
func (s *Issuers) writeRoots(roots []*x509.Certificate) error {
	bundle, err := NewBundle(roots)
	if err != nil {
		return fmt.Errorf("the bundle %w", err)
	}
	return WriteBundle(filepath.Join(s.dir, bundleFile), bundle)
}

// without returns the roots but one.
func without(roots []*x509.Certificate, gone *x509.Certificate) []*x509.Certificate {
	var out []*x509.Certificate
	for _, root := range roots {
		if !root.Equal(gone) {
			out = append(out, root)
		}
	}
	return out
}

// remove removes a file that need not be there.
func remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
