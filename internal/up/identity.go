package up

import (
	"fmt"
	"sync"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"

	"example.com/rolecall/pki"
)

// identityPath is the identity with which `up` asks services for their health. It holds no role.
const identityPath = "/supervisor"

// source is the own identity of `up`, signed by the issuer at hand, in memory. It implements interceptors.Source. Safe for
// concurrent use.
type source struct {
	issuers *pki.Issuers
	id      spiffeid.ID
	life    time.Duration

	mu    sync.Mutex
	svid  *x509svid.SVID
	renew time.Time
}

func newSource(issuers *pki.Issuers, life time.Duration) (*source, error) {
	id, err := spiffeid.FromPath(issuers.TrustDomain(), identityPath)
	if err != nil {
		return nil, err
	}
	s := &source{issuers: issuers, id: id, life: life}
	_, err = s.GetX509SVID()
	return s, err
}

// GetX509SVID returns the certificate, a new one if half of its life is over.
func (s *source) GetX509SVID() (*x509svid.SVID, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.svid != nil && time.Now().Before(s.renew) {
		return s.svid, nil
	}
	key, err := pki.NewKey()
	if err != nil {
		return nil, err
	}
	chain, err := s.issuers.Issue(pki.Leaf{ID: s.id, PublicKey: key.Public(), Life: s.life})
	if err != nil {
		return nil, fmt.Errorf("issue a certificate for %s: %w", s.id, err)
	}
	s.svid = &x509svid.SVID{ID: s.id, Certificates: chain, PrivateKey: key}
	s.renew = pki.RenewAt(pki.IssuedAt(chain[0]), chain[0].NotAfter)
	return s.svid, nil
}

// GetX509BundleForTrustDomain returns the roots of the own trust domain.
func (s *source) GetX509BundleForTrustDomain(td spiffeid.TrustDomain) (*x509bundle.Bundle, error) {
	return s.issuers.Bundle().GetX509BundleForTrustDomain(td)
}
