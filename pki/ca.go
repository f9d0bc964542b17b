package pki

import (
	"errors"
	"fmt"
	"io/fs"
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
	Passphrase  Secret           // of the root; nil: root/passphrase, which is made with the root
	Now         func() time.Time // the wall clock if nil
}

// CA is a certificate authority with its root at hand, as in `rolecall up`. Its root may have been carried away: then it
// signs with the issuers that there are, and the next one comes from the root's machine. Safe for concurrent use, also by
// several processes that have the directory open.
type CA struct {
	dir        string
	passphrase func() []byte // a func, so that nothing that prints a CA shows it
	issuers    *Issuers
	life       time.Duration

	rotate sync.Mutex // one Rotate at a time
	mu     sync.Mutex
	root   *Root            // that signs issuers now; nil: not at hand; under mu
	opened map[Digest]*Root // by certificate; under rotate
}

// OpenOrCreate opens the certificate authority in dir, or makes it with its first issuer if there is none; created tells
// which. An interrupted creation, or an interrupted replacement of its root, is completed by the next call. Where the
// root is not at hand (its folder or key was carried away) but its authority is, the result is a CA without a root; it is
// an error only if nothing can be signed, and the error says what the operator has to do.
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
	authority := filepath.Join(dir, AuthorityDir)
	there, err := authorityExists(authority)
	if err != nil {
		return nil, false, err
	}
	opened := map[Digest]*Root{}
	if !there {
		root, made, err := create(dir, c)
		if err != nil {
			return nil, false, err
		}
		opened[certDigest(root.cert)], created = root, made
	}
	issuers, err := OpenIssuers(authority, c.Now)
	if err != nil {
		return nil, false, err
	}
	if td := issuers.TrustDomain(); !c.TrustDomain.IsZero() && td != c.TrustDomain {
		return nil, false, fmt.Errorf("%s holds the certificate authority of %s, not of %s; choose another directory or trust domain", dir, td, c.TrustDomain)
	}
	ca = &CA{dir: dir, passphrase: func() []byte { return c.Passphrase }, issuers: issuers, life: c.IssuerLife, opened: opened}
	return ca, created, ca.start()
}

// authorityExists tells whether there is an online half, even one without a bundle yet.
func authorityExists(dir string) (bool, error) {
	for _, name := range []string{bundleFile, stateFile} {
		_, err := os.Stat(filepath.Join(dir, name))
		if err == nil || !errors.Is(err, fs.ErrNotExist) {
			return err == nil, err
		}
	}
	return false, nil
}

// create makes both halves of a certificate authority, or the online half of a root that is there.
func create(dir string, c Config) (root *Root, created bool, err error) {
	options := RootOptions{TrustDomain: c.TrustDomain, P384: c.P384, Now: c.Now}
	root, created, err = openOrCreateRoot(filepath.Join(dir, RootDir), c.Passphrase, options)
	if err != nil {
		return nil, false, err
	}
	root.now = clock(c.Now)
	if td := root.TrustDomain(); !c.TrustDomain.IsZero() && td != c.TrustDomain {
		return nil, false, fmt.Errorf("%s holds the root of %s, not of %s; choose another directory or trust domain", dir, td, c.TrustDomain)
	}
	authority := filepath.Join(dir, AuthorityDir)
	err = prepareAuthority(authority)
	if err == nil {
		err = createFile(filepath.Join(authority, bundleFile), encodeCertificates(root.cert), 0o644)
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, false, fmt.Errorf("prepare %s: %w", authority, err)
	}
	return root, created, nil
}

// start makes the first issuer. That the next one cannot be made is no reason not to start while one can sign: Rotate is
// called again and again, and says why. A wrong passphrase is told at once, since somebody is there who gave it.
func (ca *CA) start() error {
	_, err := ca.Rotate()
	if errors.Is(err, ErrPassphrase) {
		return err
	}
	if activeIssuer(ca.issuers.state.Load().issuers, ca.issuers.now()) != nil {
		return nil
	}
	by := ca.issuers.ActBy()
	return errors.Join(fmt.Errorf("%s: nothing can be signed: %s; what to do: %s", ca.dir, by.Reason, by.Command), ca.checkRoot(), err)
}

// Root returns the root that signs issuers now, nil if it is not at hand.
func (ca *CA) Root() *Root {
	ca.mu.Lock()
	defer ca.mu.Unlock()
	return ca.root
}

// HasRoot tells whether the root that signs issuers is at hand, so that issuers are made in time without anybody.
func (ca *CA) HasRoot() bool { return ca.Root() != nil }

// Issuers returns the issuers, which sign.
func (ca *CA) Issuers() *Issuers { return ca.issuers }
