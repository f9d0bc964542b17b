package authority

import (
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"

	"example.com/rolecall/pki"
)

// source is the authority's own certificate, which it signs itself, and the roots. It implements interceptors.Source. Safe
// for concurrent use.
type source struct {
	issuers *pki.Issuers
	id      spiffeid.ID
	life    time.Duration

	mu      sync.Mutex
	svid    *x509svid.SVID
	renewAt time.Time
}

func newSource(issuers *pki.Issuers, life time.Duration) (*source, error) {
	id, err := spiffeid.FromPath(issuers.TrustDomain(), "/service/authority")
	if err != nil {
		return nil, err
	}
	s := &source{issuers: issuers, id: id, life: life}
	_, err = s.GetX509SVID()
	return s, err
}

// GetX509SVID returns the certificate; at 45 to 55 % of its life, by the wall clock, it is a new one. While none can be
// signed the old one serves to its end.
func (s *source) GetX509SVID() (*x509svid.SVID, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now().Round(0)
	if s.svid != nil && now.Before(s.renewAt) {
		return s.svid, nil
	}
	fresh, err := s.sign()
	if err != nil {
		if s.svid != nil && now.Before(s.svid.Certificates[0].NotAfter) {
			return s.svid, nil
		}
		return nil, fmt.Errorf("the authority's own certificate: %w", err)
	}
	s.svid, s.renewAt = fresh, pki.RenewAt(now, fresh.Certificates[0].NotAfter)
	return s.svid, nil
}

func (s *source) sign() (*x509svid.SVID, error) {
	key, err := pki.NewKey()
	if err != nil {
		return nil, err
	}
	chain, err := s.issuers.Issue(pki.Leaf{ID: s.id, PublicKey: key.Public(), Life: s.life,
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}})
	if err != nil {
		return nil, err
	}
	return &x509svid.SVID{ID: s.id, Certificates: chain, PrivateKey: key}, nil
}

// GetX509BundleForTrustDomain returns the roots of the own trust domain.
func (s *source) GetX509BundleForTrustDomain(td spiffeid.TrustDomain) (*x509bundle.Bundle, error) {
	return s.issuers.Bundle().GetX509BundleForTrustDomain(td)
}
