package identity

import (
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
)

// Key is the SHA-256 of a SubjectPublicKeyInfo.
type Key = [sha256.Size]byte

// Peer is what the handshake found out about the other end. Read-only.
type Peer struct {
	ID     spiffeid.ID
	Serial string // hex
	Leaf   Key

	// NotAfter is the first moment at which no chain is valid any more.
	NotAfter time.Time

	presented []*x509.Certificate
}

// Chain is one verified way from the leaf to a root.
type Chain struct {
	// CAs are the keys of the issuers and of the root, in this order.
	CAs []Key

	root rootHash
	ends time.Time // of the certificate in it that ends first
}

type rootHash = [sha256.Size]byte

// verify checks what a peer presented, leaf first, against the bundles.
func verify(certs []*x509.Certificate, bundles x509bundle.Source, now time.Time) (*Peer, []Chain, error) {
	peer, verified, err := verifyCertificates(certs, bundles, now)
	if err != nil {
		return nil, nil, err
	}
	found := chains(verified)
	peer.NotAfter = latestEnd(found)
	return peer, found, nil
}

// verifyCertificates is verify, and returns the verified chains as they are, each from the leaf to a root.
func verifyCertificates(certs []*x509.Certificate, bundles x509bundle.Source, now time.Time) (*Peer, [][]*x509.Certificate, error) {
	if len(certs) == 0 {
		return nil, nil, refuse(ReasonNoCertificate, errors.New("no certificate was presented"))
	}
	if len(certs) > maxChain {
		return nil, nil, refuse(ReasonProfile, fmt.Errorf("%d certificates were presented, at most %d are read", len(certs), maxChain))
	}
	id, verified, err := x509svid.Verify(certs, bundles, x509svid.WithTime(now))
	if err != nil {
		if _, none := bundles.GetX509BundleForTrustDomain(id.TrustDomain()); !id.IsZero() && none != nil {
			return nil, nil, refuse(ReasonTrustDomain, err)
		}
		return nil, nil, refuse(verifyReason(err), err)
	}
	if err := checkProfile(certs[0], id); err != nil {
		return nil, nil, refuse(ReasonProfile, fmt.Errorf("certificate of %s: %w", id, err))
	}
	return &Peer{
		ID:        id,
		Serial:    certs[0].SerialNumber.Text(16),
		Leaf:      sha256.Sum256(certs[0].RawSubjectPublicKeyInfo),
		presented: certs,
	}, verified, nil
}

func verifyReason(err error) Reason {
	var invalid x509.CertificateInvalidError
	var authority x509.UnknownAuthorityError
	switch {
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return ReasonExpired
	case errors.As(err, &authority):
		return ReasonUntrusted
	}
	return ReasonInvalid
}

func earliestEnd(chain []*x509.Certificate) time.Time {
	end := chain[0].NotAfter
	for _, cert := range chain[1:] {
		if cert.NotAfter.Before(end) {
			end = cert.NotAfter
		}
	}
	return end
}

func latestEnd(chains []Chain) (end time.Time) {
	for _, chain := range chains {
		if chain.ends.After(end) {
			end = chain.ends
		}
	}
	return end
}

func chains(verified [][]*x509.Certificate) []Chain {
	out := make([]Chain, 0, len(verified))
	for _, certs := range verified {
		chain := Chain{root: sha256.Sum256(certs[len(certs)-1].Raw), ends: earliestEnd(certs)}
		for _, ca := range certs[1:] {
			chain.CAs = append(chain.CAs, sha256.Sum256(ca.RawSubjectPublicKeyInfo))
		}
		out = append(out, chain)
	}
	return out
}
