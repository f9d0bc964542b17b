package pki

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// pending is an issuer that was asked for and not signed yet: a key that stays here, and the CSR that is carried to the
// root.
type pending struct {
	generation int
	path       string
	data       []byte // of the file: the encrypted key and the CSR in PEM
	csr        []byte // DER
	public     *ecdsa.PublicKey
}

// RequestIssuer returns the CSR (PKCS#10 in DER) that the root is to sign as the next issuer, and its generation. The key
// is made with the first call and stays in the directory; until it is used, each call returns the same CSR.
func (s *Issuers) RequestIssuer() (csr []byte, generation int, err error) {
	err = s.locked(func() error {
		p, err := s.pending()
		if err == nil && p == nil {
			p, err = s.request()
		}
		if err == nil {
			csr, generation = p.csr, p.generation
		}
		return err
	})
	if err != nil {
		return nil, 0, fmt.Errorf("request an issuer: %w", err)
	}
	return csr, generation, nil
}

// ImportIssuer puts the certificate in place that the root made of the pending CSR. It is PREPARED from then on, or
// ACTIVE when no other can sign. The same certificate again is no error.
func (s *Issuers) ImportIssuer(cert *x509.Certificate) (IssuerStatus, error) {
	var generation int
	err := s.locked(func() error {
		for _, i := range s.state.Load().issuers {
			if i.Certificate.Equal(cert) {
				generation = i.Generation
				_, err := s.pending() // removes the request, should an earlier import not have come so far
				return err
			}
		}
		p, err := s.pending()
		if err != nil {
			return err
		}
		if err := s.checkImport(cert, p); err != nil {
			return err
		}
		generation = p.generation
		return s.accept(cert, p)
	})
	if err != nil {
		return IssuerStatus{}, fmt.Errorf("import issuer: %w", err)
	}
	status, _ := s.status(generation)
	return status, nil
}

// checkImport tells why a certificate is not the answer to the pending CSR, and what to do.
func (s *Issuers) checkImport(cert *x509.Certificate, p *pending) error {
	state, now := s.state.Load(), s.now()
	td, err := trustDomainOf(cert)
	switch {
	case err != nil:
		return fmt.Errorf("%q is no issuer: %w; import what `rolecall pki issuer sign` wrote", cert.Subject, err)
	case td != state.bundle.TrustDomain():
		return fmt.Errorf("%q is for the trust domain %s, and this is the authority of %s; import it there", cert.Subject, td, state.bundle.TrustDomain())
	case !cert.IsCA:
		return fmt.Errorf("%q is no authority, it cannot sign; import what `rolecall pki issuer sign` wrote", cert.Subject)
	case bytes.Equal(cert.RawSubject, cert.RawIssuer):
		return fmt.Errorf("%q is a root; an issuer is what the root signs: rolecall pki issuer sign", cert.Subject)
	case state.bundle.Empty():
		return fmt.Errorf("the bundle is empty, so nothing says which root to trust; give it once: rolecall pki issuer import --ca %s --bundle ROOTS FILE", quote(s.dir))
	case p == nil:
		return fmt.Errorf("no issuer was asked for here, so its key is not here; start with: %s", s.requestCommand())
	case !p.public.Equal(cert.PublicKey):
		return fmt.Errorf("%q holds another key than the pending request %d; have that one signed: %s", cert.Subject, p.generation, s.requestCommand())
	case !now.Before(cert.NotAfter):
		return fmt.Errorf("%q expired at %s, and the clock says %s; have the request signed again: rolecall pki issuer sign", cert.Subject, utc(cert.NotAfter), utc(now))
	}
	root := signerOf(cert, state.bundle.X509Authorities())
	if root == nil {
		return fmt.Errorf("%q was signed by %q, and no root of the bundle has that key; have it signed by one of them, or replace the root: rolecall pki root rotate prepare",
			cert.Subject, cert.Issuer)
	}
	if !now.Before(root.NotAfter) {
		return fmt.Errorf("the root %s expired at %s, nothing under it is trusted; a new root is needed: rolecall pki root rotate prepare", root.Subject, utc(root.NotAfter))
	}
	if state.rotation.standing(root) == outgoing {
		return fmt.Errorf("%q is of the old root, whose issuers sign no more; have the request signed by the new one (%s)", cert.Subject, state.rotation.New.Subject)
	}
	if err := lintIssuer(cert, root); err != nil {
		return fmt.Errorf("%q %w; have the request signed with `rolecall pki issuer sign`", cert.Subject, err)
	}
	if want, err := issuerName(p.generation, cert.PublicKey); err != nil || cert.Subject.CommonName != want {
		return fmt.Errorf("its name is %q, the pending request is for %q; have that one signed: %s", cert.Subject.CommonName, want, s.requestCommand())
	}
	return nil
}

// signerOf returns the root that signed a certificate, nil if none of these did.
func signerOf(cert *x509.Certificate, roots []*x509.Certificate) *x509.Certificate {
	for _, root := range roots {
		if bytes.Equal(cert.AuthorityKeyId, root.SubjectKeyId) && cert.CheckSignatureFrom(root) == nil {
			return root
		}
	}
	return nil
}

// accept writes the issuer and removes the request. A crash in between leaves both, which pending repairs.
func (s *Issuers) accept(cert *x509.Certificate, p *pending) error {
	key, err := s.openKey(p.path, p.data, cert.PublicKey)
	if err != nil {
		return err
	}
	block, err := keyBlock(p.data)
	if err != nil {
		return err
	}
	if err := s.addSealed(&Issuer{Generation: p.generation, Certificate: cert, key: key}, pem.EncodeToMemory(block)); err != nil {
		return err
	}
	return os.Remove(p.path)
}

// request makes a key and its CSR. The caller holds the lock.
func (s *Issuers) request() (*pending, error) {
	generation, err := s.nextGeneration()
	if err != nil {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("generate issuer key: %w", err)
	}
	csr, err := newIssuerCSR(key, generation, s.TrustDomain())
	if err != nil {
		return nil, err
	}
	sealed, err := s.sealKey(key)
	if err != nil {
		return nil, err
	}
	path := s.requestPath(generation)
	data := append(sealed, pem.EncodeToMemory(&pem.Block{Type: pemRequest, Bytes: csr})...)
	if err := createFile(path, data, 0o600); err != nil {
		return nil, err
	}
	return &pending{generation: generation, path: path, data: data, csr: csr, public: &key.PublicKey}, nil
}

// pending reads the request that waits to be signed, nil if there is none. One whose issuer is in place already was left
// behind by an import that was cut off, and is removed. The caller holds the lock.
func (s *Issuers) pending() (*pending, error) {
	paths, err := s.requestFiles()
	if err != nil {
		return nil, err
	}
	var found *pending
	for _, path := range paths {
		generation, err := generationOf(path, requestSuffix)
		if err != nil {
			return nil, err
		}
		if _, err := os.Stat(s.issuerPath(generation)); err == nil {
			if err := os.Remove(path); err != nil {
				return nil, err
			}
			continue
		} else if !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		if found != nil {
			return nil, fmt.Errorf("two requests wait: %s and %s; remove the one that was not carried to the root", found.path, path)
		}
		if found, err = s.readPending(path, generation); err != nil {
			return nil, err
		}
	}
	return found, nil
}

func (s *Issuers) readPending(path string, generation int) (*pending, error) {
	data, err := readSecret(path)
	if err != nil {
		return nil, err
	}
	_, others, err := parseCertificates(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	n := slices.IndexFunc(others, func(b *pem.Block) bool { return b.Type == pemRequest })
	if n < 0 {
		return nil, fmt.Errorf("%s holds no CSR; remove it and ask again: %s", path, s.requestCommand())
	}
	request, err := readIssuerCSR(others[n].Bytes, s.TrustDomain())
	if err == nil && request.generation != generation {
		err = fmt.Errorf("the CSR is for generation %d", request.generation)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w; remove it and ask again: %s", path, err, s.requestCommand())
	}
	return &pending{generation: generation, path: path, data: data, csr: others[n].Bytes, public: request.public}, nil
}

func (s *Issuers) requestFiles() ([]string, error) {
	return filepath.Glob(filepath.Join(s.dir, issuersDir, "[0-9]*"+requestSuffix))
}

func (s *Issuers) requestPath(generation int) string {
	return filepath.Join(s.dir, issuersDir, fmt.Sprintf("%04d%s", generation, requestSuffix))
}

// requestCommand is the first of the three commands that make an issuer with an offline root.
func (s *Issuers) requestCommand() string {
	return fmt.Sprintf("rolecall pki issuer csr --ca %s --out issuer.csr", quote(s.dir))
}
