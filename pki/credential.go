package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"

	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
)

// NewKey returns a key for a leaf: ECDSA on P-256.
func NewKey() (crypto.Signer, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("generate key: %w", err)
	}
	return key, nil
}

// WriteCredential writes a chain and its key, in the clear, to one file of mode 0600: the form for a program that renews
// itself, since certificate and key change in one step.
func WriteCredential(path string, chain []*x509.Certificate, key crypto.Signer) error {
	keyPEM, err := encodeKey(key)
	if err != nil {
		return err
	}
	if err := writeFile(path, append(encodeCertificates(chain...), keyPEM...), 0o600); err != nil {
		return fmt.Errorf("write credential: %w", err)
	}
	return nil
}

// ReadCredential reads what WriteCredential wrote, and refuses a file that others may read.
func ReadCredential(path string) (*x509svid.SVID, error) {
	data, err := readSecret(path)
	if err != nil {
		return nil, fmt.Errorf("read credential: %w", err)
	}
	svid, err := x509svid.Parse(data, data)
	if err != nil {
		return nil, fmt.Errorf("read credential %s: %w", path, err)
	}
	return svid, nil
}

// IssueFiles issues a leaf (PublicKey unset) for a person's tools: the chain at certPath (0644), the key in the clear at
// keyPath (0600). A key that is already there is kept, so that the two files fit together at every moment of a renewal.
func (s *Issuers) IssueFiles(leaf Leaf, certPath, keyPath string) ([]*x509.Certificate, error) {
	key, err := readKey(keyPath)
	if errors.Is(err, fs.ErrNotExist) {
		key, err = s.newKeyFile(keyPath)
	}
	if err != nil {
		return nil, fmt.Errorf("issue files for %s: %w", leaf.ID, err)
	}
	leaf.PublicKey = key.Public()
	chain, err := s.Issue(leaf)
	if err != nil {
		return nil, err
	}
	if err := writeFile(certPath, encodeCertificates(chain...), 0o644); err != nil {
		return nil, fmt.Errorf("issue files for %s: %w", leaf.ID, err)
	}
	return chain, nil
}

// IssueCredential issues a leaf (PublicKey unset) over a new key and writes both with WriteCredential.
func (s *Issuers) IssueCredential(leaf Leaf, path string) ([]*x509.Certificate, error) {
	key, err := NewKey()
	if err != nil {
		return nil, err
	}
	leaf.PublicKey = key.Public()
	chain, err := s.Issue(leaf)
	if err != nil {
		return nil, err
	}
	return chain, WriteCredential(path, chain, key)
}

func (s *Issuers) newKeyFile(path string) (crypto.Signer, error) {
	key, err := NewKey()
	if err != nil {
		return nil, err
	}
	keyPEM, err := encodeKey(key)
	if err != nil {
		return nil, err
	}
	return key, writeFile(path, keyPEM, 0o600)
}

func readKey(path string) (crypto.Signer, error) {
	data, err := readSecret(path)
	if err != nil {
		return nil, err
	}
	block, err := keyBlock(data)
	if err != nil {
		return nil, &KeyFileError{Path: path, Err: err}
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, &KeyFileError{Path: path, Err: fmt.Errorf("not a PKCS#8 key in the clear: %w", err)}
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok {
		return nil, &KeyFileError{Path: path, Err: fmt.Errorf("holds a %T, an ECDSA key is needed", parsed)}
	}
	return key, nil
}

func encodeKey(key crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode private key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: pemKey, Bytes: der}), nil
}
