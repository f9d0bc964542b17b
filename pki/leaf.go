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
}

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

// Issue signs a leaf with the active issuer and returns its chain, leaf first, without the root. The result is checked
// against the profile and the bundle before it leaves.
func (s *Issuers) Issue(leaf Leaf) ([]*x509.Certificate, error) {
	if leaf.Life == 0 {
		leaf.Life = DefaultLeafLife
	}
	state, now := s.state.Load(), s.now()
	td := state.bundle.TrustDomain()
	if err := checkLeaf(leaf, td); err != nil {
		return nil, fmt.Errorf("issue certificate: %w", err)
	}
	_, issuer := states(state.issuers, now)
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
	return []*x509.Certificate{cert, issuer.Certificate}, nil
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
	newest := issuers[len(issuers)-1].Certificate
	if now.Before(newest.NotBefore) {
		return fmt.Errorf("no issuer is valid yet: the newest starts at %s, and the clock says %s; check the clock",
			newest.NotBefore.Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	}
	if now.Before(newest.NotAfter) {
		return fmt.Errorf("the key of the newest issuer (%s) was deleted, as happens when the clock ran ahead; the root has to sign a new one", newest.Subject)
	}
	return fmt.Errorf("every issuer has expired, the newest at %s; the root has to sign a new one", newest.NotAfter.Format(time.RFC3339))
}
