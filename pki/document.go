package pki

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/spiffe/go-spiffe/v2/bundle/jwtbundle"
	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
)

// Uses of the keys in a bundle document (SPIFFE Trust Domain and Bundle §4.2.2).
const (
	useX509 = "x509-svid"
	useJWT  = "jwt-svid"
)

// EncodeBundleDocument returns what another trust domain needs to verify this one, as a SPIFFE bundle document (a JWK
// set; SPIFFE Trust Domain and Bundle §4): the roots in ascending order of their SHA-256, and the public keys of JWT-SVIDs
// by key ID, so that the same content is the same text. j may be nil. The hint is after how long a consumer should look
// again; it is rounded up to seconds.
func EncodeBundleDocument(x *x509bundle.Bundle, j *jwtbundle.Bundle, sequence uint64, hint time.Duration) ([]byte, error) {
	doc := struct {
		Keys     []jose.JSONWebKey `json:"keys"`
		Sequence uint64            `json:"spiffe_sequence"`
		Hint     int64             `json:"spiffe_refresh_hint"`
	}{Keys: []jose.JSONWebKey{}, Sequence: sequence, Hint: int64((hint + time.Second - 1) / time.Second)}
	roots := x.X509Authorities()
	slices.SortFunc(roots, func(a, b *x509.Certificate) int {
		one, other := certDigest(a), certDigest(b)
		return bytes.Compare(one[:], other[:])
	})
	for _, root := range roots {
		doc.Keys = append(doc.Keys, jose.JSONWebKey{Use: useX509, Key: root.PublicKey, Certificates: []*x509.Certificate{root}})
	}
	if j != nil {
		if j.TrustDomain() != x.TrustDomain() {
			return nil, fmt.Errorf("bundle document: roots of %s and JWT keys of %s", x.TrustDomain(), j.TrustDomain())
		}
		keys := j.JWTAuthorities()
		for _, id := range slices.Sorted(maps.Keys(keys)) {
			doc.Keys = append(doc.Keys, jose.JSONWebKey{Use: useJWT, KeyID: id, Key: keys[id]})
		}
	}
	data, err := json.MarshalIndent(doc, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("bundle document: %w", err)
	}
	return append(data, '\n'), nil
}
