package rolecalltest

import (
	"crypto"
	"crypto/x509"
	"fmt"
	"sync"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
)

// Source is a workload's certificate and the bundles it trusts, to be given to interceptors.New. A test changes both
// while connections are open. Safe for concurrent use.
type Source struct {
	ca   *CA
	path string

	mu      sync.Mutex
	svid    *x509svid.SVID
	bundles *x509bundle.Set
}

// Source returns a source for path that trusts the CA alone and holds a certificate with an hour of life, after every
// change has had its turn at the template.
func (ca *CA) Source(path string, changes ...func(*x509.Certificate)) *Source {
	ca.t.Helper()
	s := &Source{ca: ca, path: path, bundles: x509bundle.NewSet(ca.Bundle())}
	s.Renew(changes...)
	return s
}

// Renew replaces the certificate with a new one over a new key.
func (s *Source) Renew(changes ...func(*x509.Certificate)) {
	s.ca.t.Helper()
	cert, key := s.ca.Issue(s.path, changes...)
	s.Use(key, cert)
}

// Use replaces the certificate with a chain, leaf first.
func (s *Source) Use(key crypto.Signer, chain ...*x509.Certificate) {
	svid := &x509svid.SVID{Certificates: chain, PrivateKey: key}
	if len(chain[0].URIs) > 0 {
		if id, err := spiffeid.FromURI(chain[0].URIs[0]); err == nil {
			svid.ID = id
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.svid = svid
}

// Trust replaces the bundles with those of the given CAs; with none, nothing is trusted any more. Two CAs of one trust
// domain make one bundle.
func (s *Source) Trust(cas ...*CA) {
	set := x509bundle.NewSet()
	for _, ca := range cas {
		if b, ok := set.Get(ca.trustDomain); ok {
			b.AddX509Authority(ca.root)
			continue
		}
		set.Add(ca.Bundle())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bundles = set
}

// GetX509SVID returns the current certificate and key.
func (s *Source) GetX509SVID() (*x509svid.SVID, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.svid, nil
}

// GetX509BundleForTrustDomain returns the roots of a trust domain, or an error if it is not trusted.
func (s *Source) GetX509BundleForTrustDomain(td spiffeid.TrustDomain) (*x509bundle.Bundle, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if b, ok := s.bundles.Get(td); ok {
		return b, nil
	}
	return nil, fmt.Errorf("no bundle of trust domain %s", td)
}
