package agentd

import (
	"crypto"
	"crypto/x509"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"

	"example.com/rolecall/pki"
	"example.com/rolecall/pki/agent"
)

// source is what the agent shows and goes by when it talks to the authority. It implements interceptors.Source.
type source struct {
	*credential
	*bundleKeeper
}

// openSource reads the agent's certificate and the roots that it starts with.
func openSource(path, bundlePath string, td spiffeid.TrustDomain, log *slog.Logger) (*source, error) {
	c, err := openCredential(path)
	if err != nil {
		return nil, err
	}
	if c.svid.ID.TrustDomain() != td {
		return nil, fmt.Errorf("the agent is of the trust domain %s, its certificate %s of %s", td, path, c.svid.ID.TrustDomain())
	}
	k, err := openBundle(bundlePath, td, log)
	if err != nil {
		return nil, err
	}
	return &source{c, k}, nil
}

// credential is the agent's own certificate, in a file. Safe for concurrent use.
type credential struct {
	path    string
	renewal *agent.Renewal

	mu     sync.Mutex
	svid   *x509svid.SVID
	former *x509svid.SVID // the latest before it that was good; nil until the first renewal
}

func openCredential(path string) (*credential, error) {
	svid, err := pki.ReadCredential(path)
	if err != nil {
		return nil, err
	}
	return &credential{path: path, svid: svid, renewal: agent.NewRenewal(nil)}, nil
}

// GetX509SVID returns the agent's certificate: the former one while that is good and the newest starts in the future,
// since the clock was ahead when it was issued.
func (c *credential) GetX509SVID() (*x509svid.SVID, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if c.former != nil && !validAt(c.svid.Certificates[0], now) && validAt(c.former.Certificates[0], now) &&
		!c.renewal.Revoked(c.former.Certificates) {
		return c.former, nil
	}
	return c.svid, nil
}

func validAt(leaf *x509.Certificate, now time.Time) bool {
	return !now.Before(leaf.NotBefore) && now.Before(leaf.NotAfter)
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

// useLocked has a new certificate take the place of the one at hand, which is kept if it is good.
func (c *credential) useLocked(fresh *x509svid.SVID) {
	if validAt(c.svid.Certificates[0], time.Now()) {
		c.former = c.svid
	}
	c.svid = fresh
}

// reread takes the certificate in the file if it ends later than the one at hand, or is valid now and that one is not: it
// has expired, or starts in the future because the clock was ahead. The error says why the file cannot be used at all.
func (c *credential) reread() (taken bool, err error) {
	found, err := pki.ReadCredential(c.path)
	if err != nil {
		return false, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if found.ID != c.svid.ID {
		return false, fmt.Errorf("it is for %s, and this agent is %s: restart the agent if that is meant", found.ID, c.svid.ID)
	}
	now, fresh, own := time.Now(), found.Certificates[0], c.svid.Certificates[0]
	if !fresh.NotAfter.After(own.NotAfter) && (validAt(own, now) || !validAt(fresh, now)) {
		return false, nil
	}
	c.useLocked(found)
	return true, nil
}

// chain returns the certificate and the issuers above it.
func (c *credential) chain() []*x509.Certificate {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.svid.Certificates
}

func (c *credential) leaf() *x509.Certificate { return c.chain()[0] }
