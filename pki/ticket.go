package pki

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
)

// JoinPath is the path of the SPIFFE IDs of join tickets, before the name of what joins.
const JoinPath = "/join/"

// AgentPath is the path of the SPIFFE IDs that tickets are turned into, before the same name.
const AgentPath = "/agent/"

// maxTicketChain bounds the certificates before the roots: leaf, issuer and cross certificates.
const maxTicketChain = 8

// WriteTicket writes a join ticket to one file of mode 0600: what the agent of another machine starts with, once. It is
// PEM: the chain of a certificate for a path under /join/, its key in the clear, and the roots by which the agent knows
// the authority.
func WriteTicket(path string, chain []*x509.Certificate, key crypto.Signer, bundle *x509bundle.Bundle) error {
	keyPEM, err := encodeKey(key)
	if err != nil {
		return err
	}
	data := append(encodeCertificates(chain...), keyPEM...)
	data = append(data, EncodeBundle(bundle)...)
	if _, _, err := parseTicket(data); err != nil {
		return fmt.Errorf("write ticket: %w", err)
	}
	if err := writeFile(path, data, 0o600); err != nil {
		return fmt.Errorf("write ticket: %w", err)
	}
	return nil
}

// ReadTicket reads what WriteTicket wrote. It refuses a file that others may read (one that
// systemd handed over with LoadCredential= is taken as it comes), and one whose parts do not go
// together. Whether the ticket is still good the authority decides.
func ReadTicket(path string) (*x509svid.SVID, *x509bundle.Bundle, error) {
	data, err := readHandedSecret(path)
	if err != nil {
		return nil, nil, fmt.Errorf("read ticket: %w", err)
	}
	svid, bundle, err := parseTicket(data)
	if err != nil {
		return nil, nil, fmt.Errorf("read ticket %s: %w", path, err)
	}
	return svid, bundle, nil
}

func parseTicket(data []byte) (*x509svid.SVID, *x509bundle.Bundle, error) {
	certs, others, err := parseCertificates(data)
	if err != nil {
		return nil, nil, err
	}
	if len(others) != 1 || others[0].Type != pemKey {
		return nil, nil, errors.New("it is no join ticket: one private key in the clear belongs in it")
	}
	var chain, roots []*x509.Certificate
	for _, cert := range certs {
		if bytes.Equal(cert.RawSubject, cert.RawIssuer) && cert.IsCA {
			roots = append(roots, cert)
		} else {
			chain = append(chain, cert)
		}
	}
	bundle, err := NewBundle(roots)
	if err != nil {
		return nil, nil, fmt.Errorf("the bundle in it %w", err)
	}
	if len(chain) == 0 || len(chain) > maxTicketChain {
		return nil, nil, fmt.Errorf("it holds %d certificates beside the roots, 1 to %d are accepted", len(chain), maxTicketChain)
	}
	if err := LintLeaf(chain[0]); err != nil {
		return nil, nil, fmt.Errorf("the certificate in it %w", err)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(others[0].Bytes)
	if err != nil {
		return nil, nil, fmt.Errorf("the key in it is no PKCS#8 key: %w", err)
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok || !key.PublicKey.Equal(chain[0].PublicKey) {
		return nil, nil, errors.New("the key in it is not that of its certificate")
	}
	// As at its start: the authority, whose clock counts, tells whether it is over.
	id, _, err := x509svid.Verify(chain, bundle, x509svid.WithTime(chain[0].NotBefore.Add(time.Second)))
	if err != nil {
		return nil, nil, fmt.Errorf("its roots did not sign its certificate: %w", err)
	}
	if len(id.Path()) <= len(JoinPath) || id.Path()[:len(JoinPath)] != JoinPath {
		return nil, nil, fmt.Errorf("it is for %s: a join ticket is for a path under %s", id, JoinPath)
	}
	return &x509svid.SVID{ID: id, Certificates: chain, PrivateKey: key}, bundle, nil
}
