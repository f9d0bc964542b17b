package pki

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"
)

// Rotate makes the next issuer if it is due by the wall clock, and deletes the keys of those that have expired. Calling it
// too often does nothing; calling it late (the machine slept) does then what was due. While a root is being replaced, it
// makes issuers of the new one as well. Without a root at hand it makes none.
func (ca *CA) Rotate() (made bool, err error) {
	ca.rotate.Lock()
	defer ca.rotate.Unlock()
	if err := ca.issuers.Refresh(); err != nil {
		return false, err
	}
	if err := ca.adopt(); err != nil {
		return false, err
	}
	roots, err := ca.openRoots()
	if err != nil {
		return false, err
	}
	if len(ca.due(roots)) == 0 && !ca.issuers.retireDue() {
		return false, nil
	}
	err = ca.issuers.locked(func() error {
		var errs []error
		for _, root := range ca.due(roots) { // as it is under the lock
			err := ca.addIssuer(root)
			errs = append(errs, err)
			made = made || err == nil
		}
		return errors.Join(append(errs, ca.issuers.retire())...)
	})
	return made, err
}

// adopt puts the next root in the place of the old one where that was not done by whoever retired it.
func (ca *CA) adopt() error {
	state := ca.issuers.state.Load()
	if _, err := os.Stat(filepath.Join(ca.dir, NextRootDir)); err != nil || state.rotation.Phase != NoRotation {
		return nil
	}
	return AdoptNextRoot(ca.dir)
}

// due returns those of the roots that are to sign an issuer now.
func (ca *CA) due(roots []*Root) []*Root {
	state, now := ca.issuers.state.Load(), ca.issuers.now()
	var out []*Root
	for _, root := range roots {
		standing := state.rotation.standing(root.cert)
		if standing != outgoing && checkBundledRoot(root.cert, state.bundle.X509Authorities()) == nil &&
			rotationDue(state.issuers, ca.life, root.cert, now) {
			out = append(out, root)
		}
	}
	return out
}

func (ca *CA) addIssuer(root *Root) error {
	generation, err := ca.issuers.nextGeneration()
	if err != nil {
		return err
	}
	issuer, err := root.newIssuer(generation, ca.life)
	if err != nil {
		return err
	}
	return ca.issuers.add(issuer)
}

// openRoots returns the roots at hand that may sign issuers now: of a rotation that is PREPARED both, else one. It opens
// keys only when they were not opened before.
func (ca *CA) openRoots() ([]*Root, error) {
	rotation := ca.issuers.state.Load().rotation
	at, err := ca.rootsAt(rotation.Phase)
	if err != nil {
		return nil, err
	}
	var out []*Root
	var signs *Root
	opened := map[Digest]*Root{}
	for _, cert := range ca.wanted(rotation) {
		digest := certDigest(cert)
		dir, ok := at[digest]
		if !ok {
			continue
		}
		root := ca.opened[digest]
		if root == nil {
			if root, err = ca.openRoot(dir); err != nil {
				return nil, err
			}
		}
		if root == nil {
			continue // its certificate is here, its key is not
		}
		opened[digest] = root
		out = append(out, root)
		if rotation.standing(cert) == current {
			signs = root
		}
	}
	ca.opened = opened // the keys of roots that left are forgotten
	ca.mu.Lock()
	ca.root = signs
	ca.mu.Unlock()
	return out, nil
}

// wanted returns the roots that may sign issuers.
func (ca *CA) wanted(rotation Rotation) []*x509.Certificate {
	switch rotation.Phase {
	case RotationPrepared:
		return []*x509.Certificate{rotation.Old, rotation.New}
	case RotationActivated:
		return []*x509.Certificate{rotation.New}
	}
	return ca.issuers.state.Load().bundle.X509Authorities()
}

// rootsAt returns the folders of the roots at hand. That of the next root counts while a root is being replaced.
func (ca *CA) rootsAt(phase Phase) (map[Digest]string, error) {
	at := map[Digest]string{}
	for _, name := range []string{NextRootDir, RootDir} {
		if name == NextRootDir && phase == NoRotation {
			continue
		}
		dir := filepath.Join(ca.dir, name)
		cert, err := rootAt(dir)
		if err != nil {
			return nil, fmt.Errorf("root at hand: %w", err)
		}
		if cert != nil {
			at[certDigest(cert)] = dir
		}
	}
	return at, nil
}

// openRoot opens the root in dir with the passphrase at hand. A key or a passphrase that was carried away is no error: the
// result is nil.
func (ca *CA) openRoot(dir string) (*Root, error) {
	beside, err := ReadPassphrase(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var wrong error
	for _, passphrase := range [][]byte{ca.passphrase(), beside} {
		if passphrase == nil {
			continue
		}
		root, err := OpenRoot(dir, passphrase)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		if errors.Is(err, ErrPassphrase) {
			wrong = err
			continue
		}
		if err != nil {
			return nil, err
		}
		root.now = ca.issuers.now
		return root, nil
	}
	return nil, wrong
}

// checkRoot tells of a root beside an authority that does not know it, and so cannot use it.
func (ca *CA) checkRoot() error {
	root, err := rootAt(filepath.Join(ca.dir, RootDir))
	if err != nil || root == nil {
		return err
	}
	if err := checkBundledRoot(root, ca.issuers.state.Load().bundle.X509Authorities()); err != nil {
		return fmt.Errorf("%s: %w, so it cannot sign issuers for it", filepath.Join(ca.dir, RootDir), err)
	}
	return nil
}

// KeepRotated calls Rotate until ctx ends, often enough for issuers of a few minutes. Failures are tried again; each is
// logged when it comes up, and every ten minutes while it lasts.
func (ca *CA) KeepRotated(ctx context.Context, log *slog.Logger) {
	tick := time.NewTicker(min(max(ca.life/60, time.Second), time.Minute))
	defer tick.Stop()
	const again = 10 * time.Minute
	var last string
	var logged time.Time
	for {
		made, err := ca.Rotate()
		if err != nil && ctx.Err() == nil && (err.Error() != last || time.Since(logged) > again) {
			log.Error("issuers could not be rotated", "error", err)
			last, logged = err.Error(), time.Now()
		}
		if err == nil {
			last = ""
		}
		if made {
			list := ca.issuers.Status()
			next := list[len(list)-1]
			log.Info("next issuer prepared", "subject", next.Subject, "active_from", next.ActiveFrom, "not_after", next.NotAfter)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
