package agentd

import (
	"context"
	"crypto"
	"crypto/x509"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"

	"example.com/rolecall/pki"
	"example.com/rolecall/pki/agent"
)

// Times of the renewal of the agent's own certificate.
const (
	renewTimeout = 10 * time.Second
	firstWait    = 250 * time.Millisecond
	longestWait  = 10 * time.Second
	expiredWait  = time.Second // between looks at the file of an expired certificate
)

// credential is the agent's own certificate, in a file, and the roots it trusts. It implements interceptors.Source. Safe
// for concurrent use.
type credential struct {
	path string

	mu       sync.Mutex
	svid     *x509svid.SVID
	roots    *x509bundle.Bundle
	onChange func(*x509bundle.Bundle)
}

func openCredential(path, bundlePath string, td spiffeid.TrustDomain) (*credential, error) {
	svid, err := pki.ReadCredential(path)
	if err != nil {
		return nil, err
	}
	roots, err := pki.ReadBundle(bundlePath)
	if err != nil {
		return nil, err
	}
	if svid.ID.TrustDomain() != td || roots.TrustDomain() != td {
		return nil, fmt.Errorf("the agent is of the trust domain %s, its certificate of %s, its bundle of %s",
			td, svid.ID.TrustDomain(), roots.TrustDomain())
	}
	return &credential{path: path, svid: svid, roots: roots}, nil
}

// GetX509SVID returns the agent's certificate.
func (c *credential) GetX509SVID() (*x509svid.SVID, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.svid, nil
}

// GetX509BundleForTrustDomain returns the roots of the own trust domain.
func (c *credential) GetX509BundleForTrustDomain(td spiffeid.TrustDomain) (*x509bundle.Bundle, error) {
	return c.bundle().GetX509BundleForTrustDomain(td)
}

func (c *credential) bundle() *x509bundle.Bundle {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.roots
}

// onBundle has every new bundle told, beginning with the one at hand.
func (c *credential) onBundle(tell func(*x509bundle.Bundle)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.onChange = tell
	tell(c.roots)
}

func (c *credential) setBundle(roots *x509bundle.Bundle) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if roots.TrustDomain() != c.roots.TrustDomain() {
		return fmt.Errorf("roots of %s were sent to an agent of %s", roots.TrustDomain(), c.roots.TrustDomain())
	}
	if c.roots.Equal(roots) {
		return nil
	}
	c.roots = roots
	if c.onChange != nil {
		c.onChange(roots)
	}
	return nil
}

// keepRenewed renews at 45 to 55 % of life until ctx ends, and tries again and again while that fails. A newer certificate
// that somebody put into the file is taken, which is the only way once the own one has expired.
func (c *credential) keepRenewed(ctx context.Context, signer agent.Signer, log *slog.Logger) {
	next := c.renewAt()
	wait := firstWait
	reported := false
	for {
		pki.WaitUntil(ctx, next)
		if ctx.Err() != nil {
			return
		}
		if c.reread() {
			log.Info("a newer certificate of the agent was found in its file", "path", c.path, "not_after", c.notAfter())
			next, reported = c.renewAt(), false
			continue
		}
		if notAfter := c.notAfter(); !time.Now().Before(notAfter) {
			if !reported {
				log.Error("the agent's own certificate has expired: issue a new one into its file, as 'rolecall up' does when it starts", "path", c.path, "not_after", notAfter)
			}
			next, reported = time.Now().Add(expiredWait), true
			continue
		}
		issued := time.Now()
		notAfter, err := c.renew(ctx, signer, log)
		if err == nil {
			log.Info("the agent's own certificate was renewed", "not_after", notAfter)
			next, wait = pki.RenewAt(issued, notAfter), firstWait
			continue
		}
		if ctx.Err() == nil {
			log.Warn("the agent's own certificate could not be renewed; trying again", "not_after", c.notAfter(), "error", err)
		}
		next = time.Now().Add(wait/2 + rand.N(wait))
		wait = min(2*wait, longestWait)
	}
}

// renewAt returns when the certificate at hand is to be replaced.
func (c *credential) renewAt() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	leaf := c.svid.Certificates[0]
	return pki.RenewAt(pki.IssuedAt(leaf), leaf.NotAfter)
}

// renew has a new key signed for the same names, uses both from then on and writes them to the file. That the file cannot be
// written is reported and no error: what is needed now is in memory.
func (c *credential) renew(ctx context.Context, signer agent.Signer, log *slog.Logger) (time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, renewTimeout)
	defer cancel()
	old, _ := c.GetX509SVID()
	key, err := pki.NewKey()
	if err != nil {
		return time.Time{}, err
	}
	csr, err := pki.NewCSR(key, old.ID, old.Certificates[0].DNSNames, old.Certificates[0].IPAddresses)
	if err != nil {
		return time.Time{}, err
	}
	chain, err := signer.Sign(ctx, csr)
	if err != nil {
		return time.Time{}, err
	}
	fresh, err := newSVID(chain, key)
	if err != nil {
		return time.Time{}, fmt.Errorf("the authority's answer: %w", err)
	}
	if fresh.ID != old.ID {
		return time.Time{}, fmt.Errorf("the authority answered with a certificate of %s for %s", fresh.ID, old.ID)
	}
	c.mu.Lock()
	c.svid = fresh
	c.mu.Unlock()
	if err := pki.WriteCredential(c.path, chain, key); err != nil {
		log.Error("the agent's new certificate is in use and could not be written: an agent that starts again finds the old one", "path", c.path, "error", err)
	}
	return chain[0].NotAfter, nil
}

// newSVID puts a chain and its key together, and refuses what ReadCredential would not read.
func newSVID(chain []*x509.Certificate, key crypto.Signer) (*x509svid.SVID, error) {
	var certs []byte
	for _, cert := range chain {
		certs = append(certs, cert.Raw...)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode private key: %w", err)
	}
	return x509svid.ParseRaw(certs, der)
}

// reread takes the certificate in the file if it ends later than the one at hand.
func (c *credential) reread() bool {
	found, err := pki.ReadCredential(c.path)
	if err != nil {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if found.ID != c.svid.ID || !found.Certificates[0].NotAfter.After(c.svid.Certificates[0].NotAfter) {
		return false
	}
	c.svid = found
	return true
}

func (c *credential) notAfter() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.svid.Certificates[0].NotAfter
}
