package pki

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

const (
	rootCertFile   = "root.crt"
	rootKeyFile    = "root.key"
	passphraseFile = "passphrase"
)

// RootOptions are the choices for a new root. The zero value of all but TrustDomain is right for most.
type RootOptions struct {
	TrustDomain spiffeid.TrustDomain
	P384        bool             // P-384 instead of P-256: each check of a chain is about five times dearer
	Life        time.Duration    // 10 years if zero
	Now         func() time.Time // the wall clock if nil
}

// Root is the key at the top of the trust domain. It signs issuers and nothing else, and is not needed while the mesh
// runs. Safe for concurrent use.
type Root struct {
	cert *x509.Certificate
	key  crypto.Signer
	now  func() time.Time
}

// CreateRoot makes a root and writes it to dir, which must not exist (or be empty): root.crt, and root.key (0600)
// encrypted with the passphrase. The directory appears whole or not at all.
func CreateRoot(dir string, passphrase []byte, o RootOptions) (*Root, error) {
	return createRoot(dir, passphrase, o, nil)
}

// createRoot is CreateRoot with further files (name to content, mode 0600) in the directory.
func createRoot(dir string, passphrase []byte, o RootOptions, extra map[string][]byte) (*Root, error) {
	if found, err := os.ReadDir(dir); err == nil && len(found) > 0 {
		return nil, fmt.Errorf("create root: %s is not empty: %w", dir, fs.ErrExist)
	}
	root, err := newRoot(o)
	if err != nil {
		return nil, err
	}
	key, err := encryptKey(root.key, passphrase)
	if err != nil {
		return nil, fmt.Errorf("create root: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return nil, fmt.Errorf("create root: %w", err)
	}
	temp, err := os.MkdirTemp(filepath.Dir(dir), ".root.*") // mode 0700
	if err != nil {
		return nil, fmt.Errorf("create root: %w", err)
	}
	err = errors.Join(
		writeFile(filepath.Join(temp, rootKeyFile), key, 0o600),
		writeFile(filepath.Join(temp, rootCertFile), encodeCertificates(root.cert), 0o644))
	for name, data := range extra {
		err = errors.Join(err, writeFile(filepath.Join(temp, name), data, 0o600))
	}
	if err == nil {
		err = os.Rename(temp, dir) // fails if dir holds anything: a root is never overwritten
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("create root in %s: %w", dir, err), os.RemoveAll(temp))
	}
	return root, syncDir(filepath.Dir(dir))
}

func newRoot(o RootOptions) (*Root, error) {
	if o.TrustDomain.IsZero() {
		return nil, errors.New("create root: a trust domain is needed")
	}
	if o.Life == 0 {
		o.Life = DefaultRootLife
	}
	curve := elliptic.P256()
	if o.P384 {
		curve = elliptic.P384()
	}
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("generate root key: %w", err)
	}
	now := clock(o.Now)
	notBefore, notAfter := validity(now(), o.Life)
	keyID, err := keyID(key.Public())
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber:          newSerial(),
		Subject:               pkix.Name{Organization: []string{"rolecall"}, CommonName: fmt.Sprintf("root %x", keyID[:4])},
		NotBefore:             notBefore,
		NotAfter:              notAfter,
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		SubjectKeyId:          keyID,
		// X509-SVID §3.2: a signing certificate should carry the trust domain's ID, which has no path.
		URIs: []*url.URL{o.TrustDomain.ID().URL()},
	}
	cert, err := sign(template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("sign root: %w", err)
	}
	return &Root{cert: cert, key: key, now: now}, lintRoot(cert)
}

// openOrCreateRoot opens the root in dir, or makes it. Without a passphrase one is read from beside the root, or made and
// left there.
func openOrCreateRoot(dir string, passphrase []byte, o RootOptions) (root *Root, created bool, err error) {
	_, err = os.Stat(filepath.Join(dir, rootCertFile))
	if err == nil {
		if passphrase == nil {
			if passphrase, err = ReadPassphrase(dir); err != nil {
				return nil, false, err
			}
		}
		root, err := OpenRoot(dir, passphrase)
		return root, false, err
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, false, err
	}
	extra := map[string][]byte{}
	if passphrase == nil {
		passphrase = []byte(rand.Text())
		extra[passphraseFile] = append(bytes.Clone(passphrase), '\n')
	}
	root, err = createRoot(dir, passphrase, o, extra)
	return root, true, err
}

// OpenRoot reads the root in dir. The error says what is wrong with its files and how to repair them; a passphrase that
// does not fit is ErrPassphrase, a root that is not there fs.ErrNotExist. It takes a fifth of a second.
func OpenRoot(dir string, passphrase []byte) (*Root, error) {
	certPath, keyPath := filepath.Join(dir, rootCertFile), filepath.Join(dir, rootKeyFile)
	certs, err := readCertificates(certPath)
	if err != nil {
		return nil, fmt.Errorf("open root: %w", err)
	}
	if len(certs) != 1 {
		return nil, fmt.Errorf("open root: %s holds %d certificates, exactly one is needed", certPath, len(certs))
	}
	if err := lintRoot(certs[0]); err != nil {
		return nil, fmt.Errorf("open root: %s: %w", certPath, err)
	}
	data, err := readSecret(keyPath)
	if err != nil {
		return nil, fmt.Errorf("open root: %w", err)
	}
	key, err := decryptKey(keyPath, data, passphrase)
	if err != nil {
		return nil, fmt.Errorf("open root: %w", err)
	}
	if !key.PublicKey.Equal(certs[0].PublicKey) {
		return nil, fmt.Errorf("open root: %s is not the key of %s", keyPath, certPath)
	}
	return &Root{cert: certs[0], key: key, now: clock(nil)}, nil
}

// ReadPassphrase returns the passphrase that lies beside a development root, without its line end.
func ReadPassphrase(dir string) ([]byte, error) {
	data, err := readSecret(filepath.Join(dir, passphraseFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("no passphrase beside the root: %w", err)
	}
	return trimPassphrase(data), err
}

// Certificate returns the root's certificate. It must not be changed.
func (r *Root) Certificate() *x509.Certificate { return r.cert }

// TrustDomain returns the trust domain that the root's certificate names.
func (r *Root) TrustDomain() spiffeid.TrustDomain {
	td, _ := trustDomainOf(r.cert) // lintRoot made sure
	return td
}

// trustDomainOf reads the trust domain from the URI name of a root or an issuer.
func trustDomainOf(cert *x509.Certificate) (spiffeid.TrustDomain, error) {
	if len(cert.URIs) != 1 {
		return spiffeid.TrustDomain{}, fmt.Errorf("has %d URI names, exactly one is needed", len(cert.URIs))
	}
	id, err := spiffeid.FromURI(cert.URIs[0])
	if err != nil {
		return spiffeid.TrustDomain{}, fmt.Errorf("URI name %q: %w", cert.URIs[0], err)
	}
	if id.Path() != "" {
		return spiffeid.TrustDomain{}, fmt.Errorf("URI name %s has a path, which only leaves have", id)
	}
	return id.TrustDomain(), nil
}

// checkBundledRoot tells whether the root is one that verifiers trust.
func checkBundledRoot(root *x509.Certificate, roots []*x509.Certificate) error {
	for _, r := range roots {
		if bytes.Equal(r.Raw, root.Raw) {
			return nil
		}
	}
	return fmt.Errorf("root %s is not in the bundle", root.Subject)
}

func encodeCertificates(certs ...*x509.Certificate) []byte {
	var out []byte
	for _, cert := range certs {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: pemCertificate, Bytes: cert.Raw})...)
	}
	return out
}
