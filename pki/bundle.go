package pki

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// maxRoots bounds a bundle: more than a handful of roots is a mistake or an attack on every verifier.
const maxRoots = 64

// EncodeBundle returns the roots of a bundle as PEM: what verifiers are given, and nothing but roots.
func EncodeBundle(bundle *x509bundle.Bundle) []byte {
	return encodeCertificates(bundle.X509Authorities()...)
}

// WriteBundle replaces the bundle file in one step (0644: a bundle is no secret, but it must be the right one).
func WriteBundle(path string, bundle *x509bundle.Bundle) error {
	if err := writeFile(path, EncodeBundle(bundle), 0o644); err != nil {
		return fmt.Errorf("write bundle: %w", err)
	}
	return nil
}

// ReadBundle reads a bundle file and checks that it holds roots of one trust domain and nothing else.
func ReadBundle(path string) (*x509bundle.Bundle, error) {
	certs, err := readCertificates(path)
	if err != nil {
		return nil, fmt.Errorf("read bundle: %w", err)
	}
	bundle, err := NewBundle(certs)
	if err != nil {
		return nil, fmt.Errorf("read bundle %s: %w", path, err)
	}
	return bundle, nil
}

// NewBundle checks that the certificates are roots of one trust domain, 64 at most, and returns them as its bundle.
func NewBundle(roots []*x509.Certificate) (*x509bundle.Bundle, error) {
	if len(roots) == 0 || len(roots) > maxRoots {
		return nil, fmt.Errorf("holds %d roots, 1 to %d are accepted", len(roots), maxRoots)
	}
	var domain spiffeid.TrustDomain
	for _, root := range roots {
		if err := lintRoot(root); err != nil {
			return nil, fmt.Errorf("root %s: %w", root.Subject, err)
		}
		td, _ := trustDomainOf(root)
		if !domain.IsZero() && td != domain {
			return nil, fmt.Errorf("holds roots of two trust domains, %s and %s", domain, td)
		}
		domain = td
	}
	return x509bundle.FromX509Authorities(domain, roots), nil
}

// BundleDigest returns one number for a set of roots: agents and services report it, so that an operator can see who
// trusts what. The order of the roots and repetitions do not matter; any other difference does.
func BundleDigest(roots []*x509.Certificate) [sha256.Size]byte {
	sums := make([][sha256.Size]byte, len(roots))
	for i, root := range roots {
		sums[i] = sha256.Sum256(root.Raw)
	}
	return DigestOf(sums)
}

// DigestOf is BundleDigest for who knows only the SHA-256 sums of the roots' certificates (DER): the SHA-256 over the
// ascending sums, each once.
func DigestOf(rootSHA256 [][sha256.Size]byte) [sha256.Size]byte {
	sorted := slices.Clone(rootSHA256)
	slices.SortFunc(sorted, func(a, b [sha256.Size]byte) int { return bytes.Compare(a[:], b[:]) })
	all := sha256.New()
	for _, sum := range slices.Compact(sorted) {
		all.Write(sum[:])
	}
	return [sha256.Size]byte(all.Sum(nil))
}

// readCertificates reads a PEM file that holds certificates and nothing else.
func readCertificates(path string) ([]*x509.Certificate, error) {
	data, err := readFile(path)
	if err != nil {
		return nil, err
	}
	certs, rest, err := parseCertificates(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if len(rest) > 0 {
		return nil, fmt.Errorf("%s holds %q beside certificates", path, rest[0].Type)
	}
	if len(certs) == 0 {
		return nil, fmt.Errorf("%s holds no certificate in PEM", path)
	}
	return certs, nil
}

// parseCertificates splits PEM data into its certificates and all other blocks.
func parseCertificates(data []byte) (certs []*x509.Certificate, others []*pem.Block, err error) {
	for len(bytes.TrimSpace(data)) > 0 {
		block, rest := pem.Decode(data)
		if block == nil {
			return nil, nil, errors.New("holds text that is not PEM, or a truncated block")
		}
		data = rest
		if block.Type != pemCertificate {
			others = append(others, block)
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, nil, fmt.Errorf("certificate %d: %w", len(certs)+1, err)
		}
		certs = append(certs, cert)
	}
	return certs, others, nil
}
