package pki

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// maxToken bounds a token that is decoded, in bytes.
const maxToken = 32 << 10

// maxShown bounds how many entries of a list are shown.
const maxShown = 100

// unverified is what an inspection says where it cannot check a signature.
const unverified = "not verified: this tells what it says, not that it is true"

// tokenAlgorithms are those of JWT-SVID §2.1.
var tokenAlgorithms = []jose.SignatureAlgorithm{jose.RS256, jose.RS384, jose.RS512, jose.ES256, jose.ES384, jose.ES512,
	jose.PS256, jose.PS384, jose.PS512}

// inspectText recognizes what is neither PEM nor DER: a bundle document and a token.
func inspectText(data []byte, now time.Time) (Object, bool) {
	data = bytes.TrimSpace(data)
	var document struct{ Keys json.RawMessage }
	if len(data) > 0 && data[0] == '{' && json.Unmarshal(data, &document) == nil && document.Keys != nil {
		return inspectDocument(data, now), true
	}
	if len(data) <= maxToken && bytes.Count(data, []byte(".")) == 2 {
		if token, err := jwt.ParseSigned(string(data), tokenAlgorithms); err == nil {
			return inspectToken(token, now), true
		}
	}
	return Object{}, false
}

func inspectDocument(data []byte, now time.Time) Object {
	o := Object{Kind: kindDocument}
	td := documentDomain(data)
	bundle, err := parseDocument(td, data)
	if err != nil {
		o.problem("%v", err)
		return o
	}
	if td.IsZero() {
		o.field("trust domain", "not told: no root in it names one")
	} else {
		o.field("trust domain", td.Name())
	}
	if sequence, ok := bundle.SequenceNumber(); ok {
		o.field("sequence", fmt.Sprint(sequence))
	}
	if hint, ok := bundle.RefreshHint(); ok {
		o.field("refresh hint", hint.String())
	}
	roots := bundle.X509Authorities()
	if len(roots) > 0 {
		o.field("bundle digest", Digest(BundleDigest(roots)).String())
	}
	for _, root := range roots {
		o.field("root", fmt.Sprintf("%s, %s, until %s %s", root.Subject, describeKey(root.PublicKey), utc(root.NotAfter), relative(root.NotAfter, now)))
		o.field("root SHA-256", certDigest(root).String())
		if !now.Before(root.NotAfter) {
			o.problem("the root %s expired at %s", root.Subject, utc(root.NotAfter))
		}
	}
	keys := bundle.JWTAuthorities()
	for _, id := range slices.Sorted(maps.Keys(keys)) {
		o.field("JWT key", fmt.Sprintf("%s, %s", id, describeKey(keys[id])))
	}
	if len(roots) == 0 && len(keys) == 0 {
		o.problem("there is no root in it (use x509-svid, with x5c): whoever takes it for a bundle trusts nobody")
	}
	return o
}

// documentDomain returns the trust domain that the first root of a document names, which may be none.
func documentDomain(data []byte) spiffeid.TrustDomain {
	var document struct {
		Keys []struct{ X5c [][]byte }
	}
	_ = json.Unmarshal(data, &document) // parseDocument tells what is wrong
	for _, key := range document.Keys {
		for _, der := range key.X5c {
			cert, err := x509.ParseCertificate(der)
			if err != nil {
				continue
			}
			if td, err := trustDomainOf(cert); err == nil {
				return td
			}
		}
	}
	return spiffeid.TrustDomain{}
}

func inspectToken(token *jwt.JSONWebToken, now time.Time) Object {
	o := Object{Kind: kindToken}
	var claims jwt.Claims
	if err := token.UnsafeClaimsWithoutVerification(&claims); err != nil {
		o.problem("claims: %v", err)
		return o
	}
	o.field("SPIFFE ID", claims.Subject)
	id, err := spiffeid.FromString(claims.Subject)
	switch {
	case err != nil:
		o.problem("its subject is no SPIFFE ID: %v", err)
	case id.Path() == "":
		o.problem("its subject names a trust domain, not a workload")
	}
	o.field("audience", strings.Join(claims.Audience, ", "))
	if len(claims.Audience) == 0 {
		o.problem("it has no audience, so it must be refused everywhere") // JWT-SVID §3.2
	}
	if claims.IssuedAt != nil {
		o.field("issued", utc(claims.IssuedAt.Time()))
	}
	if claims.Expiry == nil {
		o.problem("it has no end, so it must be refused everywhere") // JWT-SVID §3.3
	} else {
		end := claims.Expiry.Time()
		o.field("valid until", utc(end)+" "+relative(end, now))
		if !now.Before(end) {
			o.problem("expired at %s", utc(end))
		}
	}
	o.field("algorithm", token.Headers[0].Algorithm)
	if kid := token.Headers[0].KeyID; kid != "" {
		o.field("key ID", kid)
	}
	o.field("signature", unverified)
	return o
}

func inspectCRL(der []byte, now time.Time) (Object, error) {
	o := Object{Kind: kindCRL}
	list, err := x509.ParseRevocationList(der)
	if err != nil {
		return o, err
	}
	o.field("signed by", list.Issuer.String())
	if list.Number != nil {
		o.field("number", list.Number.String())
	} else {
		o.problem("it has no number") // RFC 5280 §5.2.3
	}
	o.field("made", utc(list.ThisUpdate))
	o.field("next one", utc(list.NextUpdate)+" "+relative(list.NextUpdate, now))
	if !now.Before(list.NextUpdate) {
		o.problem("out of date: the next one was due at %s", utc(list.NextUpdate))
	}
	for n, entry := range list.RevokedCertificateEntries {
		if n == maxShown {
			o.field("revoked", fmt.Sprintf("and %d more", len(list.RevokedCertificateEntries)-n))
			break
		}
		o.field("revoked", fmt.Sprintf("serial %x at %s, reason %d", entry.SerialNumber, utc(entry.RevocationTime), entry.ReasonCode))
	}
	o.field("signature", unverified)
	return o, nil
}

// inspectJWTKey tells of a key of JWT-SVIDs, by the public half and the text in its file.
func inspectJWTKey(file []byte, now time.Time) Object {
	o := Object{Kind: kindJWTKey}
	public, notBefore, notAfter, err := parseJWTPublic(file)
	if err != nil {
		o.problem("%v", err)
		return o
	}
	id, err := tokenKeyID(public)
	if err != nil {
		o.problem("%v", err)
		return o
	}
	o.field("key", describeKey(public))
	o.field("key ID", id)
	o.field("valid from", utc(notBefore))
	o.field("valid until", utc(notAfter)+" "+relative(notAfter, now))
	if !now.Before(notAfter) {
		o.problem("expired at %s", utc(notAfter))
	}
	return o
}

// isIssuerRequest tells an issuer's request from a workload's: it names a trust domain, without a path.
func isIssuerRequest(csr *x509.CertificateRequest) bool {
	if len(csr.URIs) != 1 {
		return false
	}
	id, err := spiffeid.FromURI(csr.URIs[0])
	return err == nil && id.Path() == ""
}

// ErrUnknown says that data is nothing that Inspect knows.
var ErrUnknown = errors.New("neither a certificate nor a request, a key, a CRL, a bundle document or a token")
