package pki

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"time"
)

// SignCross signs a cross certificate (RFC 5280 §3.2): Subject and key of a new root of the same trust domain, issued by
// this root. A chain that carries it leads a verifier that knows only this root to the new root's issuers. It ends with
// whichever of the two roots ends first.
func (r *Root) SignCross(newRoot *x509.Certificate) (*x509.Certificate, error) {
	if err := r.checkSuccessor(newRoot); err != nil {
		return nil, fmt.Errorf("sign cross certificate: %w", err)
	}
	now := r.now()
	notAfter := r.cert.NotAfter
	if newRoot.NotAfter.Before(notAfter) {
		notAfter = newRoot.NotAfter
	}
	if !now.Before(notAfter) {
		return nil, fmt.Errorf("sign cross certificate: one of the two roots expired at %s; an expired old root is replaced without a cross certificate",
			notAfter.Format(time.RFC3339))
	}
	notBefore, _ := validity(now, notAfter.Sub(now))
	td := r.TrustDomain()
	template := &x509.Certificate{
		SerialNumber:                newSerial(),
		Subject:                     newRoot.Subject,
		RawSubject:                  newRoot.RawSubject, // chains are built by comparing names byte by byte
		NotBefore:                   notBefore,
		NotAfter:                    notAfter,
		IsCA:                        true,
		BasicConstraintsValid:       true,
		MaxPathLen:                  1, // the new root's issuers, and no authority below them
		KeyUsage:                    x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		SubjectKeyId:                newRoot.SubjectKeyId, // what the new root's issuers name as their authority's key
		URIs:                        []*url.URL{td.ID().URL()},
		PermittedURIDomains:         []string{td.Name()},
		PermittedDNSDomainsCritical: true, // makes the whole extension critical, as RFC 5280 §4.2.1.10 asks
	}
	cert, err := sign(template, r.cert, newRoot.PublicKey, r.key)
	if err != nil {
		return nil, fmt.Errorf("sign cross certificate: %w", err)
	}
	if err := lintCross(cert, newRoot, r.cert); err != nil {
		return nil, fmt.Errorf("signed cross certificate does not fit the profile, which is a defect of this program: %w", err)
	}
	return cert, nil
}

// checkSuccessor refuses what cannot take this root's place.
func (r *Root) checkSuccessor(newRoot *x509.Certificate) error {
	if err := lintRoot(newRoot); err != nil {
		return fmt.Errorf("new root %s: %w", newRoot.Subject, err)
	}
	td, _ := trustDomainOf(newRoot) // lintRoot made sure
	switch {
	case td != r.TrustDomain():
		return fmt.Errorf("the new root is for the trust domain %s, this one for %s; a trust domain keeps its name for life", td, r.TrustDomain())
	case bytes.Equal(newRoot.RawSubjectPublicKeyInfo, r.cert.RawSubjectPublicKeyInfo):
		return errors.New("the new root has the key of this one; make one with a key of its own: rolecall pki init --root DIR")
	case bytes.Equal(newRoot.RawSubject, r.cert.RawSubject):
		return errors.New("the new root has the Subject of this one, which would confuse chains")
	}
	return nil
}

// lintCross checks the profile of a cross certificate, that the old root signed it, and that it stands for the new one.
func lintCross(cert, newRoot, oldRoot *x509.Certificate) error {
	td, err := trustDomainOf(cert)
	if err != nil {
		return err
	}
	if err := lintAuthority(cert); err != nil {
		return err
	}
	oldTD, oldErr := trustDomainOf(oldRoot)
	newTD, newErr := trustDomainOf(newRoot)
	key, ok := newRoot.PublicKey.(*ecdsa.PublicKey)
	switch {
	case oldErr != nil || newErr != nil || td != oldTD || td != newTD:
		return fmt.Errorf("is for the trust domain %s, its roots for %s and %s", td, oldTD, newTD)
	case cert.MaxPathLen != 1:
		return errors.New("must allow one level of authorities below it, the issuers: pathLen must be 1")
	case !cert.PermittedDNSDomainsCritical || !slices.Equal(cert.PermittedURIDomains, []string{td.Name()}):
		return fmt.Errorf("has no critical name constraint that permits exactly the trust domain %s", td)
	case !bytes.Equal(cert.RawSubject, newRoot.RawSubject) || !bytes.Equal(cert.SubjectKeyId, newRoot.SubjectKeyId):
		return errors.New("does not name the new root")
	case !ok || !key.Equal(cert.PublicKey):
		return errors.New("does not hold the key of the new root")
	case !bytes.Equal(cert.AuthorityKeyId, oldRoot.SubjectKeyId):
		return errors.New("authority key identifier is not that of the old root")
	case cert.NotAfter.After(oldRoot.NotAfter) || cert.NotAfter.After(newRoot.NotAfter):
		return errors.New("outlives one of its roots")
	}
	return cert.CheckSignatureFrom(oldRoot)
}
