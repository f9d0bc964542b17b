package pki

import (
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// Bounds of a bundle document that another trust domain wrote.
const (
	MaxBundleDocument = 1 << 20 // bytes
	maxDocumentKeys   = 4 * maxRoots
	maxRefreshHint    = 7 * 24 * time.Hour
	minRSABits        = 2048
)

// privateParameters are the members of a JWK that hold secrets (RFC 7518 §6.2.2, §6.3.2, §6.4.1).
var privateParameters = []string{"d", "p", "q", "dp", "dq", "qi", "oth", "k"}

// ParseBundleDocument reads the bundle document of a trust domain (SPIFFE Trust Domain and Bundle §4), as a file or an
// endpoint gives it. It is strict, since whoever gets a root in there can be anybody of that trust domain: 1 MiB, 64 roots
// and 64 JWT keys at most, no member twice at any depth, no private key, no certificate that is no authority or names
// another trust domain. Keys of an unknown type or use are passed over, as §4.2 asks, and so are roots without a certificate. No keys at all is a valid document:
// the trust domain has taken back every key. A refresh hint of more than a week counts as a week.
func ParseBundleDocument(td spiffeid.TrustDomain, data []byte) (*spiffebundle.Bundle, error) {
	if td.IsZero() {
		return nil, errors.New("bundle document: the name of its trust domain is needed, since it does not tell it itself")
	}
	bundle, err := parseDocument(td, data)
	if err != nil {
		return nil, fmt.Errorf("bundle document of %s: %w", td, err)
	}
	return bundle, nil
}

// parseDocument is ParseBundleDocument; a zero trust domain stands for any.
func parseDocument(td spiffeid.TrustDomain, data []byte) (*spiffebundle.Bundle, error) {
	if len(data) > MaxBundleDocument {
		return nil, fmt.Errorf("%d bytes, at most %d are read", len(data), MaxBundleDocument)
	}
	if err := checkJSON(data); err != nil {
		return nil, err
	}
	// Into maps, not structs: encoding/json lets "KEYS" stand for "keys" there, and so one member appear twice after all.
	var members map[string]json.RawMessage
	if err := json.Unmarshal(data, &members); err != nil {
		return nil, errors.New("not a JSON object")
	}
	var keys []json.RawMessage
	if err := json.Unmarshal(members["keys"], &keys); err != nil || keys == nil {
		return nil, errors.New(`no array "keys", which must be there even when it is empty`)
	}
	if len(keys) > maxDocumentKeys {
		return nil, fmt.Errorf("%d keys, at most %d are read", len(keys), maxDocumentKeys)
	}
	bundle := spiffebundle.New(td)
	if err := readMarks(bundle, members); err != nil {
		return nil, err
	}
	for n, raw := range keys {
		if err := addKey(bundle, raw); err != nil {
			return nil, fmt.Errorf("key %d: %w", n+1, err)
		}
	}
	if roots := len(bundle.X509Authorities()); roots > maxRoots {
		return nil, fmt.Errorf("%d roots, at most %d are accepted: each costs every verifier time", roots, maxRoots)
	}
	if tokens := len(bundle.JWTAuthorities()); tokens > maxRoots {
		return nil, fmt.Errorf("%d JWT keys, at most %d are accepted", tokens, maxRoots)
	}
	return bundle, nil
}

// readMarks reads the sequence number and the refresh hint; either may be missing (§4.1.1, §4.1.2).
func readMarks(bundle *spiffebundle.Bundle, members map[string]json.RawMessage) error {
	if raw, ok := members["spiffe_sequence"]; ok {
		var sequence *uint64
		if err := json.Unmarshal(raw, &sequence); err != nil || sequence == nil {
			return fmt.Errorf("spiffe_sequence %.40s is no whole number of 64 bits", raw)
		}
		bundle.SetSequenceNumber(*sequence)
	}
	if raw, ok := members["spiffe_refresh_hint"]; ok {
		var seconds *uint32
		if err := json.Unmarshal(raw, &seconds); err != nil || seconds == nil {
			return fmt.Errorf("spiffe_refresh_hint %.40s is no number of seconds", raw)
		}
		bundle.SetRefreshHint(min(time.Duration(*seconds)*time.Second, maxRefreshHint))
	}
	return nil
}

// addKey adds one JWK to the bundle.
func addKey(bundle *spiffebundle.Bundle, raw json.RawMessage) error {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(raw, &members); err != nil || members == nil {
		return errors.New("not a JSON object")
	}
	for _, name := range privateParameters {
		if _, ok := members[name]; ok {
			return fmt.Errorf("holds %q, a part of a private key: that key is no secret any more, and whose it is must replace it", name)
		}
	}
	use, kind := text(members["use"]), text(members["kty"])
	if (use != useX509 && use != useJWT) || (kind != "EC" && kind != "RSA") {
		return nil
	}
	var key jose.JSONWebKey
	if err := key.UnmarshalJSON(raw); err != nil { // compares the key with that of the certificate as well
		return fmt.Errorf("not a JWK: %w", err)
	}
	if err := checkForeignKey(key.Key); err != nil {
		return err
	}
	if use == useJWT {
		if key.KeyID == "" {
			return errors.New("a JWT key needs a key ID (kid)")
		}
		if bundle.HasJWTAuthority(key.KeyID) {
			return fmt.Errorf("key ID %.80q occurs twice", key.KeyID)
		}
		return bundle.AddJWTAuthority(key.KeyID, key.Key)
	}
	if len(key.Certificates) == 0 {
		return nil // X509-SVID §6.2: an entry without x5c is ignored, and of several certificates all but the first
	}
	if err := lintForeignRoot(bundle.TrustDomain(), key.Certificates[0]); err != nil {
		return fmt.Errorf("certificate %s: %w", key.Certificates[0].Subject, err)
	}
	bundle.AddX509Authority(key.Certificates[0])
	return nil
}

// lintForeignRoot checks what a certificate in another trust domain's bundle must be, whoever made it: an authority
// (X509-SVID §3.2, §4.1, §4.3), which if it names a trust domain names that one.
func lintForeignRoot(td spiffeid.TrustDomain, cert *x509.Certificate) error {
	switch {
	case !cert.BasicConstraintsValid || !cert.IsCA:
		return errors.New("is no authority: a bundle holds roots")
	case cert.KeyUsage&x509.KeyUsageCertSign == 0:
		return errors.New("its key usage does not allow it to sign certificates")
	}
	for _, uri := range cert.URIs {
		if uri.Scheme != "spiffe" {
			continue
		}
		id, err := spiffeid.FromURI(uri)
		if err != nil {
			return fmt.Errorf("URI name: %w", err)
		}
		if id.Path() != "" || (!td.IsZero() && id.TrustDomain() != td) {
			return fmt.Errorf("is about %s", id)
		}
	}
	return nil
}

// checkForeignKey accepts the keys that JWT-SVID §2.1 and X509-SVID know, of a size that nobody breaks.
func checkForeignKey(public any) error {
	switch key := public.(type) {
	case *ecdsa.PublicKey:
		if bits := key.Curve.Params().BitSize; bits < 256 {
			return fmt.Errorf("ECDSA key of %d bits is too short", bits)
		}
	case *rsa.PublicKey:
		if bits := key.N.BitLen(); bits < minRSABits || bits > 4*minRSABits {
			return fmt.Errorf("RSA key of %d bits: %d to %d are accepted", bits, minRSABits, 4*minRSABits)
		}
	default:
		return fmt.Errorf("key of type %T: ECDSA and RSA are accepted", public)
	}
	return nil
}

// text returns a JSON string, "" for whatever is none.
func text(raw json.RawMessage) string {
	var s string
	if json.Unmarshal(raw, &s) != nil {
		return ""
	}
	return s
}
