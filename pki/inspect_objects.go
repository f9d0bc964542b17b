package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// Kinds of objects.
const (
	kindRoot          = "root certificate"
	kindIssuer        = "issuer certificate"
	kindCross         = "cross certificate"
	kindLeaf          = "leaf certificate"
	kindRequest       = "certificate request (CSR)"
	kindIssuerRequest = "issuer request (CSR)"
	kindEncryptedKey  = "encrypted private key"
	kindPlainKey      = "private key in the clear"
	kindJWTKey        = "public key of JWT-SVIDs"
	kindToken         = "JWT-SVID"
	kindDocument      = "bundle document (SPIFFE, JWK set)"
	kindCRL           = "certificate revocation list (CRL)"
)

func inspectDER(data []byte, now time.Time) (Object, error) {
	if cert, err := x509.ParseCertificate(data); err == nil {
		return inspectCertificate(cert, now), nil
	}
	if csr, err := x509.ParseCertificateRequest(data); err == nil {
		return inspectRequest(csr), nil
	}
	if crl, err := inspectCRL(data, now); err == nil {
		return crl, nil
	}
	return Object{}, ErrUnknown
}

func inspectBlock(block *pem.Block, now time.Time) Object {
	switch {
	case block.Type == pemCertificate:
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return Object{Kind: "certificate", Problems: []string{err.Error()}}
		}
		return inspectCertificate(cert, now)
	case block.Type == pemRequest || block.Type == "NEW "+pemRequest:
		csr, err := x509.ParseCertificateRequest(block.Bytes)
		if err != nil {
			return Object{Kind: kindRequest, Problems: []string{err.Error()}}
		}
		return inspectRequest(csr)
	case block.Type == pemCRL:
		crl, err := inspectCRL(block.Bytes, now)
		if err != nil {
			crl.problem("%v", err)
		}
		return crl
	case strings.HasSuffix(block.Type, pemKey):
		return inspectKey(block)
	}
	return Object{Kind: fmt.Sprintf("PEM block %q", block.Type), Problems: []string{"not a kind of block that rolecall uses"}}
}

func inspectCertificate(cert *x509.Certificate, now time.Time) Object {
	o := Object{Kind: kindLeaf, cert: cert}
	var err error
	switch {
	case cert.IsCA && string(cert.RawSubject) == string(cert.RawIssuer):
		o.Kind = kindRoot
		err = lintRoot(cert)
	case cert.IsCA:
		o.Kind = kindIssuer
		if cert.MaxPathLen == 1 { // room for issuers below it
			o.Kind = kindCross
		}
		if _, tdErr := trustDomainOf(cert); tdErr != nil {
			err = tdErr
		} else {
			err = lintAuthority(cert)
		}
	default:
		err = LintLeaf(cert)
	}
	if err != nil {
		o.problem("%v", err)
	}
	for _, uri := range cert.URIs {
		o.field("SPIFFE ID", uri.String())
	}
	if s := cert.Subject.String(); s != "" {
		o.field("Subject", s)
	}
	o.field("signed by", cert.Issuer.String())
	o.names(cert.DNSNames, cert.IPAddresses)
	o.field("serial", fmt.Sprintf("%x", cert.SerialNumber))
	o.field("key", describeKey(cert.PublicKey))
	o.field("key SHA-256", fmt.Sprintf("%x", sha256.Sum256(cert.RawSubjectPublicKeyInfo)))
	o.field("valid from", cert.NotBefore.UTC().Format(time.RFC3339))
	o.field("valid until", cert.NotAfter.UTC().Format(time.RFC3339)+" "+relative(cert.NotAfter, now))
	if o.Kind == kindIssuer {
		i := Issuer{Certificate: cert}
		o.field("successor due", i.prepareNext().UTC().Format(time.RFC3339)+" "+relative(i.prepareNext(), now))
		o.field("signs until", i.handOver().UTC().Format(time.RFC3339)+" "+relative(i.handOver(), now))
	}
	if now.Before(cert.NotBefore) {
		o.problem("not valid yet: it starts at %s; is the clock right?", cert.NotBefore.UTC().Format(time.RFC3339))
	}
	if !now.Before(cert.NotAfter) {
		o.problem("expired at %s", cert.NotAfter.UTC().Format(time.RFC3339))
	}
	return o
}

func inspectRequest(csr *x509.CertificateRequest) Object {
	o := Object{Kind: kindRequest}
	if s := csr.Subject.String(); s != "" {
		o.field("Subject", s)
	}
	for _, uri := range csr.URIs {
		o.field("SPIFFE ID", uri.String())
	}
	o.names(csr.DNSNames, csr.IPAddresses)
	o.field("key", describeKey(csr.PublicKey))
	td := spiffeid.TrustDomain{}
	if len(csr.URIs) == 1 {
		if id, err := spiffeid.FromURI(csr.URIs[0]); err == nil {
			td = id.TrustDomain()
		}
	}
	_, err := ReadCSR(csr.Raw, td)
	if isIssuerRequest(csr) {
		o.Kind = kindIssuerRequest
		_, err = readIssuerCSR(csr.Raw, td)
	}
	if err != nil {
		o.problem("an authority would refuse it: %v", err)
	}
	return o
}

func inspectKey(block *pem.Block) Object {
	o := Object{Kind: kindEncryptedKey, key: block}
	sealed, err := checkKeyBlock(block)
	switch {
	case err == nil:
		o.field("encryption", fmt.Sprintf("PKCS#8 PBES2, PBKDF2-HMAC-SHA256, %d rounds, %d-byte salt, AES-256-CBC", sealed.rounds, len(sealed.salt)))
		return o
	case block.Type == pemEncryptedKey || len(block.Headers) > 0:
		o.problem("%v", err)
		return o
	}
	o.Kind = kindPlainKey
	key, err := parsePlainKey(block)
	if err != nil {
		o.problem("%v", err)
		return o
	}
	o.field("key", describeKey(key.Public()))
	if err := checkKeyType(key.Public()); err != nil {
		o.problem("%v", err)
	}
	return o
}

// parsePlainKey reads PKCS#8 as well as the older forms that openssl writes.
func parsePlainKey(block *pem.Block) (crypto.Signer, error) {
	if key, err := x509.ParseECPrivateKey(block.Bytes); err == nil {
		return key, nil
	}
	if key, err := x509.ParsePKCS1PrivateKey(block.Bytes); err == nil {
		return key, nil
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("not a private key that can be read: %w", err)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("a %T cannot sign", key)
	}
	return signer, nil
}

func (o *Object) field(name, value string) { o.Fields = append(o.Fields, Field{name, value}) }

func (o *Object) problem(format string, args ...any) {
	o.Problems = append(o.Problems, fmt.Sprintf(format, args...))
}

func (o *Object) names(dns []string, ips []net.IP) {
	names := dns
	for _, ip := range ips {
		names = append(names[:len(names):len(names)], ip.String())
	}
	if len(names) > 0 {
		o.field("names", strings.Join(names, ", "))
	}
}

func describeKey(public crypto.PublicKey) string {
	switch key := public.(type) {
	case *ecdsa.PublicKey:
		return "ECDSA " + key.Curve.Params().Name
	case *rsa.PublicKey:
		return fmt.Sprintf("RSA %d bits", key.N.BitLen())
	}
	return strings.TrimPrefix(fmt.Sprintf("%T", public), "*")
}

// relative says how far t is from now: "(in 3h20m0s)".
func relative(t, now time.Time) string {
	if d := t.Sub(now).Round(time.Second); d > 0 {
		return fmt.Sprintf("(in %s)", d)
	}
	return fmt.Sprintf("(%s ago)", now.Sub(t).Round(time.Second))
}
