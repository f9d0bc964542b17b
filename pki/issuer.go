package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"net/url"
	"time"
)

// SignIssuer signs the certificate of an issuer: pathLen 0, no names but those of the trust domain, and a Subject that no
// other issuer has, so that chains cannot be confused. It ends with the root at the latest.
func (r *Root) SignIssuer(public crypto.PublicKey, generation int, life time.Duration) (*x509.Certificate, error) {
	if err := checkKeyType(public); err != nil {
		return nil, fmt.Errorf("sign issuer: %w", err)
	}
	now := r.now()
	if now.Before(r.cert.NotBefore) {
		return nil, fmt.Errorf("sign issuer: the root %s is valid from %s on, and the clock says %s; check the clock",
			r.cert.Subject, utc(r.cert.NotBefore), utc(now))
	}
	notBefore, notAfter := validity(now, life)
	if notAfter.After(r.cert.NotAfter) {
		notAfter = r.cert.NotAfter
	}
	if !now.Before(notAfter) {
		return nil, fmt.Errorf("sign issuer: the root %s expired at %s; a new root is needed, and every verifier needs its bundle",
			r.cert.Subject, utc(r.cert.NotAfter))
	}
	id, err := keyID(public)
	if err != nil {
		return nil, err
	}
	name, err := issuerName(generation, public)
	if err != nil {
		return nil, err
	}
	td := r.TrustDomain()
	template := &x509.Certificate{
		SerialNumber:          newSerial(),
		Subject:               pkix.Name{Organization: []string{organization}, CommonName: name},
		NotBefore:             notBefore,
		NotAfter:              notAfter,
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLenZero:        true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		SubjectKeyId:          id,
		URIs:                  []*url.URL{td.ID().URL()},
		// RFC 5280 §4.2.1.10: a host without a leading dot is that host alone. Go also lets sub-domains pass, so
		// verifiers compare the trust domain in code as well.
		PermittedURIDomains:         []string{td.Name()},
		PermittedDNSDomainsCritical: true, // makes the whole extension critical, as RFC 5280 asks
	}
	cert, err := sign(template, r.cert, public, r.key)
	if err != nil {
		return nil, fmt.Errorf("sign issuer: %w", err)
	}
	if err := lintIssuer(cert, r.cert); err != nil {
		return nil, fmt.Errorf("signed issuer does not fit the profile, which is a defect of this program: %w", err)
	}
	return cert, nil
}

// newIssuer makes a key and has it signed.
func (r *Root) newIssuer(generation int, life time.Duration) (*Issuer, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("generate issuer key: %w", err)
	}
	cert, err := r.SignIssuer(key.Public(), generation, life)
	if err != nil {
		return nil, err
	}
	return &Issuer{Generation: generation, Certificate: cert, key: key}, nil
}

// checkKeyType is the allow-list of public keys in certificates: ECDSA on P-256 or P-384.
func checkKeyType(public crypto.PublicKey) error {
	key, ok := public.(*ecdsa.PublicKey)
	if !ok {
		return fmt.Errorf("key of type %T: only ECDSA on P-256 or P-384 is signed", public)
	}
	if key.Curve != elliptic.P256() && key.Curve != elliptic.P384() {
		return fmt.Errorf("key on curve %s: only P-256 and P-384 are signed", key.Curve.Params().Name)
	}
	return nil
}
