package identity

import (
	"crypto/x509"
	"fmt"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// VerifyAnnounced checks a chain, leaf first, that came otherwise than in a handshake as if a peer had shown it: against
// the bundles at the given time, against the profile, and that neither the leaf's key nor a CA of every chain is denied.
func VerifyAnnounced(certs []*x509.Certificate, bundles x509bundle.Source, now time.Time, denied func(spiffeid.ID, Key) bool) (*Peer, error) {
	p, found, err := verify(certs, bundles, now)
	if err != nil {
		return nil, err
	}
	if denied(p.ID, p.Leaf) {
		return nil, fmt.Errorf("%s or its key is denied", p.ID)
	}
	good := withoutDenied(found, func(key Key) bool { return denied(p.ID, key) })
	if len(good) == 0 {
		return nil, fmt.Errorf("every chain of %s has a CA that is denied", p.ID)
	}
	p.NotAfter = latestEnd(good)
	return p, nil
}

// ParseChain reads the certificates of a chain in DER, and no more of them than a peer may show.
func ParseChain(chain [][]byte) ([]*x509.Certificate, error) {
	if len(chain) == 0 || len(chain) > maxChain {
		return nil, fmt.Errorf("a chain of %d certificates: 1 to %d are read", len(chain), maxChain)
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
