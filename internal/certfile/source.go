// Package certfile is a source of certificates for a program that has no Workload API but files: a person's tools, which
// use the operator files that `rolecall up` writes and renews.
//
//	source, err := certfile.Open("alice.crt", "alice.key", "bundle.pem")
//	guard, err := interceptors.New(source, nil)
//
// The files are read again when they have changed. It writes none: pki does.
package certfile

import (
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
)

// Source is a certificate chain, its key and the roots of its trust domain, each in a PEM file. It implements
// interceptors.Source. Safe for concurrent use.
type Source struct {
	cert, key, bundle string

	mu      sync.Mutex
	stamp   [3]stamp
	svid    *x509svid.SVID
	trusted *x509bundle.Bundle
}

// stamp changes when a file does: a file that was replaced has another time, and nearly always another size.
type stamp struct {
	modified time.Time
	size     int64
}

// Open reads the three files. The error names the one that is missing or not what it should be.
func Open(cert, key, bundle string) (*Source, error) {
	s := &Source{cert: cert, key: key, bundle: bundle}
	now, err := s.look()
	if err != nil {
		return nil, err
	}
	if err := s.read(now); err != nil {
		return nil, err
	}
	return s, nil
}

// GetX509SVID returns the certificate and key as the files have them now. While they cannot be read, which happens for a
// moment when they are being replaced, it returns what they had.
func (s *Source) GetX509SVID() (*x509svid.SVID, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refresh()
	return s.svid, nil
}

// GetX509BundleForTrustDomain returns the roots as the bundle file has them now; there are none for other trust domains.
func (s *Source) GetX509BundleForTrustDomain(td spiffeid.TrustDomain) (*x509bundle.Bundle, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refresh()
	if td != s.trusted.TrustDomain() {
		return nil, fmt.Errorf("no roots of trust domain %q in %s", td, s.bundle)
	}
	return s.trusted, nil
}

// refresh reads the files again if one of them has changed. A failure leaves the stamp as it was: the next call tries again.
func (s *Source) refresh() {
	now, err := s.look()
	if err != nil || now == s.stamp {
		return
	}
	_ = s.read(now)
}

func (s *Source) look() (stamps [3]stamp, err error) {
	for i, path := range []string{s.cert, s.key, s.bundle} {
		info, err := os.Stat(path)
		if err != nil {
			return stamps, fmt.Errorf("look at certificate file: %w", err)
		}
		stamps[i] = stamp{info.ModTime(), info.Size()}
	}
	return stamps, nil
}

func (s *Source) read(now [3]stamp) error {
	svid, err := x509svid.Load(s.cert, s.key)
	if err != nil {
		return fmt.Errorf("read certificate %s with key %s: %w", s.cert, s.key, err)
	}
	trusted, err := x509bundle.Load(svid.ID.TrustDomain(), s.bundle)
	if err != nil {
		return fmt.Errorf("read roots %s: %w", s.bundle, err)
	}
	if trusted.Empty() {
		return fmt.Errorf("read roots %s: there is no certificate in it", s.bundle)
	}
	s.svid, s.trusted, s.stamp = svid, trusted, now
	return nil
}
