package identity

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// maxChain bounds what a peer can make us parse and verify: a leaf, an issuer, a cross certificate, and room.
const maxChain = 6

var (
	oidKeyUsage = asn1.ObjectIdentifier{2, 5, 29, 15}
	oidSAN      = asn1.ObjectIdentifier{2, 5, 29, 17}
)

// checkProfile refuses leaves that go-spiffe's verifier accepts and the X509-SVID standard or our own profile does not.
// The chain has been verified and the ID parsed before.
func checkProfile(leaf *x509.Certificate, id spiffeid.ID) error {
	// SPIFFE-ID §2: a workload's ID has a path; without one it names the trust domain, which is nobody's identity.
	if id.Path() == "" {
		return errors.New("the SPIFFE ID has no path")
	}
	if err := checkSAN(leaf, id); err != nil {
		return err
	}
	// X509-SVID §4.1: a leaf is not a CA. go-spiffe checks the flag; an unparsed or missing one must not pass for false.
	if leaf.IsCA {
		return errors.New("the leaf is a CA")
	}
	// X509-SVID §4.3: key usage is critical, has digitalSignature, and neither keyCertSign nor cRLSign.
	if !hasCritical(leaf, oidKeyUsage) {
		return errors.New("the leaf has no critical key usage")
	}
	if leaf.KeyUsage&x509.KeyUsageDigitalSignature == 0 {
		return errors.New("the key usage lacks digitalSignature")
	}
	if leaf.KeyUsage&(x509.KeyUsageCertSign|x509.KeyUsageCRLSign) != 0 {
		return errors.New("the key usage allows to sign certificates or CRLs")
	}
	// X509-SVID §4.4: where extended key usage is present, both must be; we want it present.
	for _, usage := range []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} {
		if !slices.Contains(leaf.ExtKeyUsage, usage) {
			return errors.New("the extended key usage does not have both serverAuth and clientAuth")
		}
	}
	return checkKey(leaf.PublicKey)
}

// checkSAN demands that the one URI name of the certificate is, byte for byte, the ID that was parsed from it: no
// escape, upper case or other spelling that one reader takes for another name than the next.
func checkSAN(leaf *x509.Certificate, id spiffeid.ID) error {
	var uris []string
	for _, ext := range leaf.Extensions {
		if !ext.Id.Equal(oidSAN) {
			continue
		}
		// RFC 5280 §4.2.1.6: SEQUENCE OF GeneralName, of which uniformResourceIdentifier is [6].
		var names []asn1.RawValue
		if rest, err := asn1.Unmarshal(ext.Value, &names); err != nil || len(rest) != 0 {
			return errors.New("the subject alternative name cannot be parsed")
		}
		for _, name := range names {
			if name.Class == asn1.ClassContextSpecific && name.Tag == 6 {
				uris = append(uris, string(name.Bytes))
			}
		}
	}
	if len(uris) != 1 || uris[0] != id.String() {
		return fmt.Errorf("the URI names %q are not exactly one SPIFFE ID in its only spelling", uris)
	}
	return nil
}

func hasCritical(cert *x509.Certificate, oid asn1.ObjectIdentifier) bool {
	return slices.ContainsFunc(cert.Extensions, func(ext pkix.Extension) bool { return ext.Critical && ext.Id.Equal(oid) })
}

// checkKey allows the key types that other SPIFFE implementations issue, at the strengths of NIST SP 800-57 part 1
// for today: 112 bits for RSA, 128 bits for the others.
func checkKey(key any) error {
	switch key := key.(type) {
	case *ecdsa.PublicKey:
		if key.Curve == elliptic.P256() || key.Curve == elliptic.P384() || key.Curve == elliptic.P521() {
			return nil
		}
		return fmt.Errorf("a leaf key on curve %s is not allowed", key.Curve.Params().Name)
	case ed25519.PublicKey:
		return nil
	case *rsa.PublicKey:
		if key.N.BitLen() >= 2048 {
			return nil
		}
		return fmt.Errorf("a leaf key of RSA %d bits is too weak", key.N.BitLen())
	}
	return fmt.Errorf("a leaf key of type %T is not allowed", key)
}
