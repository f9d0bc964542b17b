package identity

import (
	"crypto/x509"
	"fmt"
	"slices"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// maxBytes bounds the certificates of a chain that came otherwise than in a handshake, in bytes. TLS has a bound of its own.
const maxBytes = 16 << 10

// Announced is a chain that came otherwise than in a handshake, and was verified. It keeps no certificate that came along
// and was not needed for that. Immutable.
type Announced struct {
	*Peer

	chains []Chain
}

// Announce verifies a chain, leaf first, as if a peer had shown it: against the bundles at the given time, against the
// profile, and that neither the leaf's key nor a CA of every chain is denied.
func Announce(certs []*x509.Certificate, bundles x509bundle.Source, now time.Time, denied func(spiffeid.ID, Key) bool) (*Announced, error) {
	p, verified, err := verifyCertificates(certs, bundles, now)
	if err != nil {
		return nil, err
	}
	found := chains(verified)
	// The leaf is kept also where it is in the bundle itself, so that the verified chain is of it alone.
	p.presented = append([]*x509.Certificate{certs[0]}, slices.DeleteFunc(slices.Clone(certs[1:]), func(cert *x509.Certificate) bool {
		return !slices.ContainsFunc(verified, func(chain []*x509.Certificate) bool {
			return slices.ContainsFunc(chain[:len(chain)-1], cert.Equal) // the root is in the bundle
		})
	})...)
	if denied(p.ID, p.Leaf) {
		return nil, fmt.Errorf("%s or its key is denied", p.ID)
	}
	good := withoutDenied(found, func(key Key) bool { return denied(p.ID, key) })
	if len(good) == 0 {
		return nil, fmt.Errorf("every chain of %s has a CA that is denied", p.ID)
	}
	p.NotAfter = latestEnd(good)
	return &Announced{Peer: p, chains: found}, nil
}

// Recheck looks at a chain that was verified before, without a signature check as long as one of the roots that it led to is
// still in the bundle; else everything is verified anew. It returns what holds now.
func (a *Announced) Recheck(bundles x509bundle.Source, now time.Time, denied func(spiffeid.ID, Key) bool) (*Announced, error) {
	if denied(a.ID, a.Leaf) {
		return nil, fmt.Errorf("%s or its key is denied", a.ID)
	}
	td := a.ID.TrustDomain()
	trust := ReadTrust(bundles, []spiffeid.TrustDomain{td})
	if len(trust.filter(td, a.chains, now, func(key Key) bool { return denied(a.ID, key) })) > 0 {
		return a, nil
	}
	return Announce(a.presented, bundles, now, denied)
}

// VerifyAnnounced is Announce for who looks at the chain once.
func VerifyAnnounced(certs []*x509.Certificate, bundles x509bundle.Source, now time.Time, denied func(spiffeid.ID, Key) bool) (*Peer, error) {
	a, err := Announce(certs, bundles, now, denied)
	if err != nil {
		return nil, err
	}
	return a.Peer, nil
}

// PublicKey returns the key of the leaf.
func (a *Announced) PublicKey() any { return a.presented[0].PublicKey }

// ParseChain reads the certificates of a chain in DER: no more of them than a peer may show, and 16 KiB at most.
func ParseChain(chain [][]byte) ([]*x509.Certificate, error) {
	if len(chain) == 0 || len(chain) > maxChain {
		return nil, fmt.Errorf("a chain of %d certificates: 1 to %d are read", len(chain), maxChain)
	}
	size := 0
	for _, der := range chain {
		size += len(der)
	}
	if size > maxBytes {
		return nil, fmt.Errorf("a chain of %d bytes: at most %d are read", size, maxBytes)
	}
	certs := make([]*x509.Certificate, 0, len(chain))
	for i, der := range chain {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("certificate %d of the chain: %w", i+1, err)
		}
		certs = append(certs, cert)
	}
	return certs, nil
}
