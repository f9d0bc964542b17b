package pki

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// NextRootDir is the directory of the root that takes over from the one in RootDir, beside it, until the old one is
// retired.
const NextRootDir = "root-next"

// CreateNextRoot makes the root that is to take over in a certificate authority's directory, or opens the one that an
// earlier call made there. Without a passphrase one is made and lies beside the root, as in development.
func CreateNextRoot(dir string, passphrase []byte, o RootOptions) (*Root, error) {
	next := filepath.Join(dir, NextRootDir)
	root, _, err := openOrCreateRoot(next, passphrase, o)
	if err != nil {
		return nil, fmt.Errorf("next root: %w", err)
	}
	if td := root.TrustDomain(); !o.TrustDomain.IsZero() && td != o.TrustDomain {
		return nil, fmt.Errorf("next root: %s holds a root of the trust domain %s, not of %s; move it away", next, td, o.TrustDomain)
	}
	root.now = clock(o.Now)
	return root, nil
}

// AdoptNextRoot lets the next root take the place of the old one in a certificate authority's directory, once the old one
// has left the bundle: root-next becomes root, and what was there root-retired-XXXXXXXX. It is the last step of a
// rotation where the roots are at hand; done twice, or without a next root, it does nothing.
func AdoptNextRoot(dir string) error {
	authority := filepath.Join(dir, AuthorityDir)
	err := lockDir(authority, func() error {
		stored, err := (&Issuers{dir: authority}).readState()
		if err != nil || stored.Rotation != nil {
			return err // not yet
		}
		bundle, err := ReadBundle(filepath.Join(authority, bundleFile))
		if err != nil {
			return err
		}
		return adoptRoot(dir, bundle.X509Authorities())
	})
	if err != nil {
		return fmt.Errorf("adopt the next root: %w", err)
	}
	return nil
}

func adoptRoot(dir string, roots []*x509.Certificate) error {
	old, err := rootAt(filepath.Join(dir, RootDir))
	if err != nil {
		return err
	}
	next, err := rootAt(filepath.Join(dir, NextRootDir))
	if err != nil {
		return err
	}
	switch {
	case next == nil, checkBundledRoot(next, roots) != nil:
		return nil // there is none, or it was not prepared yet
	case old == nil && len(roots) > 1:
		return nil // the old root is elsewhere, and one of these
	case old != nil && checkBundledRoot(old, roots) == nil:
		return nil // still in use
	case old != nil:
		digest := certDigest(old)
		if err := os.Rename(filepath.Join(dir, RootDir), filepath.Join(dir, fmt.Sprintf("root-retired-%x", digest[:4]))); err != nil {
			return err
		}
	}
	if err := os.Rename(filepath.Join(dir, NextRootDir), filepath.Join(dir, RootDir)); err != nil {
		return err
	}
	return syncDir(dir)
}

// rootAt returns the certificate of the root in dir, nil if there is none.
func rootAt(dir string) (*x509.Certificate, error) {
	certs, err := readCertificates(filepath.Join(dir, rootCertFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if len(certs) != 1 {
		return nil, fmt.Errorf("%s holds %d certificates, exactly one is needed", filepath.Join(dir, rootCertFile), len(certs))
	}
	return certs[0], nil
}
