package pki

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// Extensions that certificates of this package carry (RFC 5280 §4.2.1): any other one is a mistake.
var (
	oidSubjectKeyID     = asn1.ObjectIdentifier{2, 5, 29, 14}
	oidKeyUsage         = asn1.ObjectIdentifier{2, 5, 29, 15}
	oidSubjectAltName   = asn1.ObjectIdentifier{2, 5, 29, 17}
	oidBasicConstraints = asn1.ObjectIdentifier{2, 5, 29, 19}
	oidNameConstraints  = asn1.ObjectIdentifier{2, 5, 29, 30}
	oidAuthorityKeyID   = asn1.ObjectIdentifier{2, 5, 29, 35}
	oidExtKeyUsage      = asn1.ObjectIdentifier{2, 5, 29, 37}
)

// lintRoot checks the profile of a root.
func lintRoot(cert *x509.Certificate) error {
	if _, err := trustDomainOf(cert); err != nil {
		return err
	}
	if !bytes.Equal(cert.RawSubject, cert.RawIssuer) || cert.CheckSignatureFrom(cert) != nil {
		return errors.New("is not self-signed: a bundle holds roots only")
	}
	return lintAuthority(cert)
}

// lintIssuer checks the profile of an issuer and that the root signed it for its own trust domain.
func lintIssuer(cert, root *x509.Certificate) error {
	td, err := trustDomainOf(cert)
	if err != nil {
		return err
	}
	if want, _ := trustDomainOf(root); td != want {
		return fmt.Errorf("is for the trust domain %s, its root for %s", td, want)
	}
	if err := lintAuthority(cert); err != nil {
		return err
	}
	switch {
	case cert.MaxPathLen != 0 || !cert.MaxPathLenZero:
		return errors.New("may sign further authorities: pathLen must be 0")
	case !cert.PermittedDNSDomainsCritical || !slices.Equal(cert.PermittedURIDomains, []string{td.Name()}):
		return fmt.Errorf("has no critical name constraint that permits exactly the trust domain %s", td)
	case bytes.Equal(cert.RawSubject, cert.RawIssuer):
		return errors.New("has the Subject of its root")
	case cert.NotAfter.After(root.NotAfter):
		return errors.New("outlives its root")
	case !bytes.Equal(cert.AuthorityKeyId, root.SubjectKeyId):
		return errors.New("authority key identifier is not that of its root")
	}
	return cert.CheckSignatureFrom(root)
}

func lintAuthority(cert *x509.Certificate) error {
	switch {
	case cert.Version != 3:
		return fmt.Errorf("is X.509 version %d, not 3", cert.Version)
	case !cert.BasicConstraintsValid || !cert.IsCA || !critical(cert, oidBasicConstraints):
		return errors.New("is no authority: critical basic constraints with cA are needed")
	case cert.KeyUsage&x509.KeyUsageCertSign == 0 || cert.KeyUsage&^(x509.KeyUsageCertSign|x509.KeyUsageCRLSign) != 0 || !critical(cert, oidKeyUsage):
		return errors.New("critical key usage keyCertSign is needed (cRLSign may be there, nothing else)")
	case len(cert.SubjectKeyId) == 0:
		return errors.New("has no subject key identifier")
	case len(cert.ExtKeyUsage)+len(cert.UnknownExtKeyUsage) > 0:
		return errors.New("has an extended key usage, which authorities have not")
	case cert.Subject.String() == "":
		return errors.New("has no Subject") // RFC 5280 §4.1.2.6
	}
	return errors.Join(lintSerial(cert), checkKeyType(cert.PublicKey),
		lintExtensions(cert, oidSubjectKeyID, oidAuthorityKeyID, oidKeyUsage, oidBasicConstraints, oidSubjectAltName, oidNameConstraints))
}

// LintLeaf checks the profile of a workload's certificate: X509-SVID §4 and §5.2, and what this package adds to it.
func LintLeaf(cert *x509.Certificate) error {
	switch {
	case cert.Version != 3:
		return fmt.Errorf("is X.509 version %d, not 3", cert.Version)
	case cert.IsCA || !cert.BasicConstraintsValid:
		return errors.New("basic constraints must be there and say that it is no authority")
	case cert.KeyUsage != x509.KeyUsageDigitalSignature || !critical(cert, oidKeyUsage):
		return errors.New("key usage must be critical and digitalSignature alone")
	case len(cert.UnknownExtKeyUsage) > 0 || len(cert.ExtKeyUsage) != 2 ||
		!slices.Contains(cert.ExtKeyUsage, x509.ExtKeyUsageServerAuth) || !slices.Contains(cert.ExtKeyUsage, x509.ExtKeyUsageClientAuth):
		return errors.New("extended key usage must be server and client authentication")
	case len(cert.URIs) != 1:
		return fmt.Errorf("has %d URI names, exactly one is needed", len(cert.URIs))
	case len(cert.EmailAddresses) > 0:
		return errors.New("has an e-mail name")
	case cert.Subject.String() != "" || !critical(cert, oidSubjectAltName):
		return errors.New("must have no Subject, and critical alternative names")
	case len(cert.AuthorityKeyId) == 0:
		return errors.New("has no authority key identifier")
	}
	id, err := spiffeid.FromURI(cert.URIs[0])
	if err != nil {
		return fmt.Errorf("URI name: %w", err)
	}
	if id.Path() == "" {
		return fmt.Errorf("SPIFFE ID %s has no path", id)
	}
	return errors.Join(lintSerial(cert), checkKeyType(cert.PublicKey), checkNames(cert.DNSNames, cert.IPAddresses),
		lintExtensions(cert, oidSubjectKeyID, oidAuthorityKeyID, oidKeyUsage, oidExtKeyUsage, oidBasicConstraints, oidSubjectAltName))
}

// lintIssued checks a leaf that was just signed: its profile, that it says exactly what was asked, and that a verifier
// who holds the bundle accepts its chain.
func lintIssued(cert *x509.Certificate, want Leaf, issuer *x509.Certificate, roots *x509.CertPool, now time.Time) error {
	if err := LintLeaf(cert); err != nil {
		return err
	}
	wantKey, err := x509.MarshalPKIXPublicKey(want.PublicKey)
	switch {
	case err != nil:
		return err
	case cert.URIs[0].String() != want.ID.String():
		return fmt.Errorf("names %s instead of %s", cert.URIs[0], want.ID)
	case !bytes.Equal(cert.RawSubjectPublicKeyInfo, wantKey):
		return errors.New("holds another public key")
	case !slices.Equal(cert.DNSNames, want.DNSNames):
		return fmt.Errorf("has DNS names %q instead of %q", cert.DNSNames, want.DNSNames)
	case !slices.EqualFunc(cert.IPAddresses, want.IPAddresses, net.IP.Equal):
		return fmt.Errorf("has IP addresses %v instead of %v", cert.IPAddresses, want.IPAddresses)
	case cert.NotAfter.After(issuer.NotAfter):
		return errors.New("outlives its issuer")
	}
	intermediates := x509.NewCertPool()
	intermediates.AddCert(issuer)
	_, err = cert.Verify(x509.VerifyOptions{Roots: roots, Intermediates: intermediates, CurrentTime: now,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	return err
}

func lintSerial(cert *x509.Certificate) error {
	if cert.SerialNumber.Sign() <= 0 || cert.SerialNumber.BitLen() > 159 {
		return errors.New("serial number must be positive and 20 octets at most")
	}
	return nil
}

func lintExtensions(cert *x509.Certificate, known ...asn1.ObjectIdentifier) error {
	for _, e := range cert.Extensions {
		if !slices.ContainsFunc(known, e.Id.Equal) {
			return fmt.Errorf("has an extension that does not belong there: %v", e.Id)
		}
	}
	return nil
}

func critical(cert *x509.Certificate, id asn1.ObjectIdentifier) bool {
	for _, e := range cert.Extensions {
		if e.Id.Equal(id) {
			return e.Critical
		}
	}
	return false
}
