package pki

import (
	"fmt"
	"sync"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
)

// Source is an identity that is signed by the issuers at hand, in memory, and the roots: what a program goes by that has
// issuers. It is a source of go-spiffe, of an SVID and of bundles. Safe for concurrent use.
type Source struct {
	issuers *Issuers
	leaf    Leaf

	mu      sync.Mutex
	svid    *x509svid.SVID
	renewal renewal
}

// NewSource signs the first certificate for a leaf (PublicKey unset): each certificate is over a key of its own.
func NewSource(issuers *Issuers, leaf Leaf) (*Source, error) {
	s := &Source{issuers: issuers, leaf: leaf}
	_, err := s.GetX509SVID()
	return s, err
}

// GetX509SVID returns the certificate; at 45 to 55 % of its life, by the wall clock, it is a new one. It is so at once when
// its issuer was revoked or its root has left the bundle, and when the clock was set back to before its start. While none
// can be signed the old one serves to its end.
func (s *Source) GetX509SVID() (*x509svid.SVID, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.issuers.now()
	if s.svid != nil && !s.renewal.due(now) && !s.issuers.stopped(s.svid.Certificates[1]) {
		return s.svid, nil
	}
	fresh, err := s.sign()
	if err != nil {
		if s.svid != nil && now.Before(s.svid.Certificates[0].NotAfter) {
			return s.svid, nil
		}
		return nil, fmt.Errorf("own certificate: %w", err)
	}
	s.svid, s.renewal = fresh, newRenewal(fresh.Certificates[0], now)
	return s.svid, nil
}

func (s *Source) sign() (*x509svid.SVID, error) {
	key, err := NewKey()
	if err != nil {
		return nil, err
	}
	leaf := s.leaf
	leaf.PublicKey = key.Public()
	chain, err := s.issuers.Issue(leaf)
	if err != nil {
		return nil, err
	}
	return &x509svid.SVID{ID: leaf.ID, Certificates: chain, PrivateKey: key}, nil
}

// GetX509BundleForTrustDomain returns the roots of the own trust domain.
func (s *Source) GetX509BundleForTrustDomain(td spiffeid.TrustDomain) (*x509bundle.Bundle, error) {
	return s.issuers.Bundle().GetX509BundleForTrustDomain(td)
}
