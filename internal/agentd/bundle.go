package agentd

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/jwtbundle"
	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"

	authorityv1 "example.com/rolecall/gen/authority/v1"
	"example.com/rolecall/pki"
	"example.com/rolecall/pki/agent"
)

// Bounds of what the authority says.
const (
	maxRevoked   = 1024
	firstHint    = time.Minute // until the authority gives one
	shortestHint = time.Second
	longestHint  = time.Hour
)

// errBackwards reports a bundle with a lower sequence number than one seen before: an old one.
var errBackwards = errors.New("its sequence number goes back")

// bundleKeeper holds the roots that the agent goes by. They only ever become newer. Safe for concurrent use.
type bundleKeeper struct {
	path    string
	foreign bool // the file is the authority's own and is never written
	log     *slog.Logger
	changed chan struct{} // holds one: there are other roots

	mu     sync.Mutex
	roots  *x509bundle.Bundle
	digest [32]byte
	inFile [32]byte // digest of what the file was last seen to hold
	said   string   // the last complaint about the file
	seen   uint64   // sequence number of the roots; 0: they are those that the agent started with
	hint   time.Duration
	server *agent.Server  // nil until tell
	own    *agent.Renewal // of the agent's own certificate
}

func openBundle(path string, td spiffeid.TrustDomain, log *slog.Logger) (*bundleKeeper, error) {
	roots, err := pki.ReadBundle(path)
	if err != nil {
		return nil, err
	}
	if roots.TrustDomain() != td {
		return nil, fmt.Errorf("the agent is of the trust domain %s, its bundle %s of %s", td, path, roots.TrustDomain())
	}
	// The authority's own file says what the authority signs under; who reads it must never write it.
	info, err := os.Stat(filepath.Join(filepath.Dir(path), "issuers"))
	foreign := err == nil && info.IsDir()
	if foreign {
		log.Warn("the agent's bundle file is the authority's own, and is left to it; give the agent a copy", "path", path)
	}
	digest := pki.BundleDigest(roots.X509Authorities())
	return &bundleKeeper{path: path, foreign: foreign, log: log, changed: make(chan struct{}, 1), roots: roots,
		digest: digest, inFile: digest, hint: firstHint}, nil
}

// GetX509BundleForTrustDomain returns the roots of the own trust domain.
func (k *bundleKeeper) GetX509BundleForTrustDomain(td spiffeid.TrustDomain) (*x509bundle.Bundle, error) {
	return k.bundle().GetX509BundleForTrustDomain(td)
}

func (k *bundleKeeper) bundle() *x509bundle.Bundle {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.roots
}

// tell names who is told of every newer bundle: the Workload API, and the renewal of the agent's own certificate.
func (k *bundleKeeper) tell(server *agent.Server, own *agent.Renewal) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.server, k.own = server, own
	server.SetBundle(k.roots)
}

// take takes over a whole bundle, unless it is older than one seen before.
func (k *bundleKeeper) take(b *authorityv1.Bundle) error {
	td := k.bundle().TrustDomain()
	if b.GetTrustDomain() != td.Name() {
		return fmt.Errorf("a bundle of the trust domain %q was sent to an agent of %s", b.GetTrustDomain(), td)
	}
	if b.GetSequence() == 0 {
		return errors.New("the bundle has no sequence number")
	}
	roots, err := parseRoots(b.GetRoots(), td)
	if err != nil {
		return err
	}
	document, err := pki.ParseBundleDocument(td, b.GetJwtKeys())
	if err != nil {
		return fmt.Errorf("keys of JWT-SVIDs: %w", err)
	}
	revoked, err := parseRevoked(b.GetRevokedIssuers())
	if err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	digest := pki.BundleDigest(roots.X509Authorities())
	if err := k.newerLocked(b.GetSequence(), digest); err != nil {
		return err
	}
	k.hint = min(max(time.Duration(min(b.GetRefreshHintSeconds(), int64(longestHint/time.Second)))*time.Second, shortestHint), longestHint)
	k.setRootsLocked(roots, digest, b.GetSequence())
	k.spreadLocked(document.JWTBundle(), revoked)
	return nil
}

// newerLocked refuses what is older than what was seen. The same number again stands for the same roots.
func (k *bundleKeeper) newerLocked(sequence uint64, digest [32]byte) error {
	if sequence < k.seen {
		return fmt.Errorf("bundle %d after %d: %w; the newer one stays. If the authority was set up from an old backup and its clock was behind, restart this agent: it then begins anew",
			sequence, k.seen, errBackwards)
	}
	if sequence == k.seen && digest != k.digest {
		return fmt.Errorf("bundle %d came twice with different roots; the first stays", sequence)
	}
	return nil
}

// takeRoots takes over the roots that came with a certificate, if they are newer than those at hand.
func (k *bundleKeeper) takeRoots(der [][]byte, sequence uint64) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if sequence <= k.seen {
		return nil
	}
	roots, err := parseRoots(der, k.roots.TrustDomain())
	if err != nil {
		return err
	}
	k.setRootsLocked(roots, pki.BundleDigest(roots.X509Authorities()), sequence)
	return nil
}

func (k *bundleKeeper) setRootsLocked(roots *x509bundle.Bundle, digest [32]byte, sequence uint64) {
	k.seen = sequence
	if digest == k.digest {
		return
	}
	k.roots, k.digest = roots, digest
	if k.foreign {
		// The authority writes it.
	} else if err := pki.WriteBundle(k.path, roots); err != nil {
		k.log.Error("the new roots are in use and could not be written: an agent that starts again begins with the old ones", "path", k.path, "error", err)
	} else {
		k.inFile = digest
	}
	k.log.Info("new bundle", "sequence", sequence, "roots", len(roots.X509Authorities()))
	if k.server != nil {
		k.server.SetBundle(roots)
	}
	select {
	case k.changed <- struct{}{}:
	default:
	}
}

func (k *bundleKeeper) spreadLocked(keys *jwtbundle.Bundle, revoked [][32]byte) {
	if k.server == nil {
		return
	}
	k.server.SetJWTBundle(keys)
	k.server.SetRevokedIssuers(revoked)
	set := make(map[[32]byte]struct{}, len(revoked))
	for _, key := range revoked {
		set[key] = struct{}{}
	}
	k.own.SetRevoked(set)
}

// present returns what is reported: the sequence number and the digest of the roots at hand, and the refresh hint.
func (k *bundleKeeper) present() (sequence uint64, digest [32]byte, hint time.Duration) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.seen, k.digest, k.hint
}

func parseRoots(der [][]byte, td spiffeid.TrustDomain) (*x509bundle.Bundle, error) {
	certs, err := parse(der)
	if err != nil {
		return nil, fmt.Errorf("roots of the authority: %w", err)
	}
	bundle, err := pki.NewBundle(certs)
	if err != nil {
		return nil, fmt.Errorf("roots of the authority: %w", err)
	}
	if bundle.TrustDomain() != td {
		return nil, fmt.Errorf("roots of %s were sent to an agent of %s", bundle.TrustDomain(), td)
	}
	return bundle, nil
}

func parseRevoked(keys [][]byte) ([][32]byte, error) {
	if len(keys) > maxRevoked {
		return nil, fmt.Errorf("%d revoked issuers, %d at most are accepted", len(keys), maxRevoked)
	}
	parsed := make([][32]byte, len(keys))
	for n, key := range keys {
		if len(key) != sha256.Size {
			return nil, fmt.Errorf("revoked issuer %d: %d bytes are no SHA-256", n+1, len(key))
		}
		parsed[n] = [32]byte(key)
	}
	return parsed, nil
}

func parse(der [][]byte) ([]*x509.Certificate, error) {
	if len(der) == 0 {
		return nil, errors.New("none were sent")
	}
	certs := make([]*x509.Certificate, len(der))
	for i, raw := range der {
		var err error
		if certs[i], err = x509.ParseCertificate(raw); err != nil {
			return nil, err
		}
	}
	return certs, nil
}

// pause waits, or for the end of ctx.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
