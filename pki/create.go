package pki

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// CreateAuthority makes the directory of an authority whose root is elsewhere: RequestIssuer and ImportIssuer then give
// it an issuer. The bundle says which roots it has; it may be nil until the first import. What is there already is
// completed and never overwritten; an authority of another trust domain or with other roots is refused.
func CreateAuthority(dir string, td spiffeid.TrustDomain, bundle *x509bundle.Bundle) error {
	if err := createAuthority(dir, td, bundle); err != nil {
		return fmt.Errorf("create authority in %s: %w", dir, err)
	}
	return nil
}

func createAuthority(dir string, td spiffeid.TrustDomain, bundle *x509bundle.Bundle) error {
	if td.IsZero() {
		return errors.New("a trust domain is needed")
	}
	if bundle != nil {
		checked, err := NewBundle(bundle.X509Authorities()) // roots and nothing else
		if err != nil {
			return fmt.Errorf("the bundle %w", err)
		}
		if checked.TrustDomain() != td {
			return fmt.Errorf("the bundle is that of the trust domain %s, not of %s", checked.TrustDomain(), td)
		}
	}
	if err := prepareAuthority(dir); err != nil {
		return err
	}
	s := &Issuers{dir: dir, credential: filepath.Join(dir, credentialFile), now: clock(nil), record: openRecord(dir)}
	if err := lockDir(dir, func() error { return s.nameTrustDomain(td) }); err != nil {
		return err
	}
	return s.locked(func() error {
		if have := s.TrustDomain(); have != td {
			return fmt.Errorf("it is the authority of the trust domain %s, not of %s; choose another directory", have, td)
		}
		if bundle == nil {
			return nil
		}
		have := s.Bundle()
		if have.Empty() {
			return createFile(filepath.Join(dir, bundleFile), EncodeBundle(bundle), 0o644)
		}
		if BundleDigest(have.X509Authorities()) != BundleDigest(bundle.X509Authorities()) {
			return errors.New("it has other roots than the bundle; a root is replaced with: rolecall pki root rotate prepare")
		}
		return nil
	})
}

// nameTrustDomain writes the trust domain down until there is a bundle that says it.
func (s *Issuers) nameTrustDomain(td spiffeid.TrustDomain) error {
	stored, err := s.readState()
	if err != nil || !stored.TrustDomain.IsZero() {
		return err
	}
	if _, err := os.Stat(filepath.Join(s.dir, bundleFile)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return s.change(func(stored *storedState) { stored.TrustDomain = td })
}

// prepareAuthority makes what every authority's directory needs: a place for issuers and the credential of their keys.
func prepareAuthority(dir string) error {
	if err := os.MkdirAll(filepath.Join(dir, issuersDir), 0o700); err != nil {
		return err
	}
	err := createFile(filepath.Join(dir, credentialFile), []byte(rand.Text()+rand.Text()+"\n"), 0o600)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}
