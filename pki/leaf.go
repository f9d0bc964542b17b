package pki

import (
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// Leaf is what a workload's certificate is to say. Whoever fills it in has decided that the workload is entitled to it.
type Leaf struct {
	ID          spiffeid.ID
	DNSNames    []string
	IPAddresses []net.IP
	PublicKey   crypto.PublicKey // ECDSA on P-256 or P-384
	Life        time.Duration    // 24 h if zero; 15 s at least; cut to a sixth of the issuer's life
	Requester   string           // who asked, for the record: a SPIFFE ID; "" for this process itself ("local")
}

// local is the requester of what a process with the authority's directory issues by itself.
const local = "local"

// CheckLives refuses lives of leaves and issuers that do not go together.
func CheckLives(leaf, issuer time.Duration) error {
	if leaf < MinLeafLife {
		return fmt.Errorf("leaf life %s is too short: %s at least", leaf, MinLeafLife)
	}
	if leaf > issuer/leavesPerIssuer {
		return fmt.Errorf("leaf life %s is more than a sixth of the issuer life %s; leaves of %s at most, or issuers of %s at least",
			leaf, issuer, issuer/leavesPerIssuer, leaf*leavesPerIssuer)
	}
	return nil
}

// Issue signs a leaf with the active issuer and returns its chain: leaf, issuer and, while a root is being replaced, the
// cross certificate, by which verifiers that know only the old root get there. The root is not in it. The result is checked
// against the profile and the bundle, and on record, before it leaves.
func (s *Issuers) Issue(leaf Leaf) ([]*x509.Certificate, error) {
	if s.owner != nil {
		return nil, fmt.Errorf("issue certificate: %w", s.owner)
	}
	if leaf.Life == 0 {
		leaf.Life = DefaultLeafLife
	}
	state, now := s.state.Load(), s.now()
	td := state.bundle.TrustDomain()
	if err := checkLeaf(leaf, td); err != nil {
		return nil, fmt.Errorf("issue certificate: %w", err)
	}
	issuer := activeIssuer(state.issuers, now)
	if issuer == nil {
		return nil, fmt.Errorf("issue certificate for %s: %w", leaf.ID, noIssuer(state.issuers, now))
	}
	template, err := leafTemplate(leaf, issuer, now)
	if err != nil {
		return nil, fmt.Errorf("issue certificate for %s: %w", leaf.ID, err)
	}
	cert, err := sign(template, issuer.Certificate, leaf.PublicKey, issuer.key)
	if err != nil {
		return nil, fmt.Errorf("issue certificate for %s: %w", leaf.ID, err)
	}
	if err := lintIssued(cert, leaf, issuer.Certificate, state.roots, now); err != nil {
		return nil, fmt.Errorf("issue certificate for %s: signed certificate does not fit the profile, which is a defect of this program: %w", leaf.ID, err)
	}
	if err := s.record.append(recordOf(cert, leaf, issuer, now)); err != nil {
		return nil, fmt.Errorf("issue certificate for %s: %w", leaf.ID, err)
	}
	return issuer.chain(cert, now), nil
}

// chain is what a leaf of this issuer goes with.
func (i *Issuer) chain(leaf *x509.Certificate, now time.Time) []*x509.Certificate {
	chain := []*x509.Certificate{leaf, i.Certificate}
	for _, cross := range i.cross {
		if !now.Before(cross.NotBefore) && now.Before(cross.NotAfter) {
			chain = append(chain, cross)
		}
	}
	return chain
}

func recordOf(cert *x509.Certificate, leaf Leaf, issuer *Issuer, now time.Time) Record {
	requester := leaf.Requester
	if requester == "" {
		requester = local
	}
	return Record{Serial: fmt.Sprintf("%x", cert.SerialNumber), ID: leaf.ID.String(), KeySHA256: keyDigest(cert).String(), Requester: requester,
		Issued: now.UTC(), NotBefore: cert.NotBefore, NotAfter: cert.NotAfter,
		Generation: issuer.Generation, RootSHA256: certDigest(issuer.root).String()}
}

// leafTemplate is the whole profile of a leaf. It has no Subject: the SPIFFE ID is the only identity, and RFC 5280
// §4.2.1.6 then makes the subject alternative name critical.
func leafTemplate(leaf Leaf, issuer *Issuer, now time.Time) (*x509.Certificate, error) {
	id, err := keyID(leaf.PublicKey)
	if err != nil {
		return nil, err
	}
	notBefore, notAfter := validity(now, min(leaf.Life, issuer.span()/leavesPerIssuer))
	if notAfter.After(issuer.Certificate.NotAfter) {
		notAfter = issuer.Certificate.NotAfter
	}
	return &x509.Certificate{
		SerialNumber:          newSerial(),
		NotBefore:             notBefore,
		NotAfter:              notAfter,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
		SubjectKeyId:          id,
		URIs:                  []*url.URL{leaf.ID.URL()},
		DNSNames:              leaf.DNSNames,
		IPAddresses:           leaf.IPAddresses,
	}, nil
}

func checkLeaf(leaf Leaf, td spiffeid.TrustDomain) error {
	if leaf.ID.IsZero() || leaf.ID.Path() == "" {
		return errors.New("a SPIFFE ID with a path is needed")
	}
	if leaf.ID.TrustDomain() != td {
		return fmt.Errorf("%s is not of the trust domain %s", leaf.ID, td)
	}
	if leaf.Life < MinLeafLife {
		return fmt.Errorf("life %s is too short: %s at least", leaf.Life, MinLeafLife)
	}
	if err := checkKeyType(leaf.PublicKey); err != nil {
		return err
	}
	return checkNames(leaf.DNSNames, leaf.IPAddresses)
}

// noIssuer says why nothing can be signed at now.
func noIssuer(issuers []*Issuer, now time.Time) error {
	if len(issuers) == 0 {
		return errors.New("there is no issuer yet; the root has to sign one")
	}
	newest := issuers[len(issuers)-1]
	cert := newest.Certificate
	switch {
	case newest.revoked && now.Before(cert.NotAfter):
		return fmt.Errorf("the newest issuer (%s) was revoked, and there is no other; the root has to sign a new one", cert.Subject)
	case now.Before(cert.NotBefore):
		return fmt.Errorf("no issuer is valid yet: the newest starts at %s, and the clock says %s; check the clock", utc(cert.NotBefore), utc(now))
	case now.Before(cert.NotAfter):
		return fmt.Errorf("the key of the newest issuer (%s) was deleted, as happens when the clock ran ahead; the root has to sign a new one", cert.Subject)
	}
	return fmt.Errorf("every issuer has expired, the newest at %s; the root has to sign a new one", utc(cert.NotAfter))
}
