package pki

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// The two halves of a certificate authority's directory.
const (
	RootDir      = "root"
	AuthorityDir = "authority"
)

// Config describes a certificate authority whose root is at hand.
type Config struct {
	TrustDomain spiffeid.TrustDomain
	IssuerLife  time.Duration    // 7 days if zero
	LeafLife    time.Duration    // the longest leaf that will be asked for; 24 h if zero; a sixth of IssuerLife at most
	P384        bool             // for a root that is made now
	Passphrase  []byte           // of the root; nil: root/passphrase, which is made with the root
	Now         func() time.Time // the wall clock if nil
}

// CA is a certificate authority with its root at hand, as in `rolecall up`. Safe for concurrent use; only one process at a
// time may have a directory open as a CA.
type CA struct {
	root    *Root
	issuers *Issuers
	life    time.Duration
	rotate  sync.Mutex
}

// OpenOrCreate opens the certificate authority in dir, or makes it with its first issuer if there is none; created tells
// which. An interrupted creation is completed by the next call.
func OpenOrCreate(dir string, c Config) (ca *CA, created bool, err error) {
	if c.IssuerLife == 0 {
		c.IssuerLife = DefaultIssuerLife
	}
	if c.LeafLife == 0 {
		c.LeafLife = DefaultLeafLife
	}
	if err := CheckLives(c.LeafLife, c.IssuerLife); err != nil {
		return nil, false, err
	}
	root, created, err := openOrCreateRoot(filepath.Join(dir, RootDir), c)
	if err != nil {
		return nil, false, err
	}
	root.now = clock(c.Now)
	if td := root.TrustDomain(); !c.TrustDomain.IsZero() && td != c.TrustDomain {
		return nil, false, fmt.Errorf("%s holds the certificate authority of %s, not of %s; choose another directory or trust domain", dir, td, c.TrustDomain)
	}
	authority := filepath.Join(dir, AuthorityDir)
	if err := prepareAuthority(authority, root); err != nil {
		return nil, false, fmt.Errorf("prepare %s: %w", authority, err)
	}
	issuers, err := OpenIssuers(authority, c.Now)
	if err != nil {
		return nil, false, err
	}
	if err := checkBundledRoot(root.cert, issuers.state.Load().bundle.X509Authorities()); err != nil {
		return nil, false, fmt.Errorf("%s: %w", authority, err)
	}
	ca = &CA{root: root, issuers: issuers, life: c.IssuerLife}
	_, err = ca.Rotate()
	return ca, created, err
}

func openOrCreateRoot(dir string, c Config) (*Root, bool, error) {
	_, err := os.Stat(filepath.Join(dir, rootCertFile))
	if err == nil {
		if c.Passphrase == nil {
			if c.Passphrase, err = ReadPassphrase(dir); err != nil {
				return nil, false, err
			}
		}
		root, err := OpenRoot(dir, c.Passphrase)
		return root, false, err
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, false, err
	}
	extra := map[string][]byte{}
	if c.Passphrase == nil {
		c.Passphrase = []byte(rand.Text())
		extra[passphraseFile] = append(bytes.Clone(c.Passphrase), '\n')
	}
	root, err := createRoot(dir, c.Passphrase, RootOptions{TrustDomain: c.TrustDomain, P384: c.P384, Now: c.Now}, extra)
	return root, true, err
}

// prepareAuthority makes what an authority's directory lacks: its bundle and the credential of its keys.
func prepareAuthority(dir string, root *Root) error {
	if err := os.MkdirAll(filepath.Join(dir, issuersDir), 0o700); err != nil {
		return err
	}
	err := createFile(filepath.Join(dir, bundleFile), encodeCertificates(root.cert), 0o644)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	err = createFile(filepath.Join(dir, credentialFile), []byte(rand.Text()+rand.Text()+"\n"), 0o600)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// Root returns the root.
func (ca *CA) Root() *Root { return ca.root }

// Issuers returns the issuers, which sign.
func (ca *CA) Issuers() *Issuers { return ca.issuers }

// Rotate makes the next issuer if it is due by the wall clock, and deletes the keys of those that have expired. Calling it
// too often does nothing; calling it late (the machine slept) does then what was due.
func (ca *CA) Rotate() (made bool, err error) {
	ca.rotate.Lock()
	defer ca.rotate.Unlock()
	if err := ca.issuers.Refresh(); err != nil {
		return false, err
	}
	existing := ca.issuers.state.Load().issuers
	if rotationDue(existing, ca.life, ca.root.cert, ca.issuers.now()) {
		generation := 1
		if len(existing) > 0 {
			generation = existing[len(existing)-1].Generation + 1
		}
		issuer, err := ca.root.newIssuer(generation, ca.life)
		if err != nil {
			return false, err
		}
		if err := ca.issuers.add(issuer); err != nil {
			return false, err
		}
		made = true
	}
	return made, ca.issuers.Retire()
}

// KeepRotated calls Rotate until ctx ends, often enough for issuers of a few minutes; failures are logged and tried again.
func (ca *CA) KeepRotated(ctx context.Context, log *slog.Logger) {
	tick := time.NewTicker(min(max(ca.life/60, time.Second), time.Minute))
	defer tick.Stop()
	for {
		made, err := ca.Rotate()
		switch {
		case err != nil && ctx.Err() == nil:
			log.Error("issuers could not be rotated", "error", err)
		case made:
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
