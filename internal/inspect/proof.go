package inspect

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"strings"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// maxProofLife is the longest life of a proof that any server accepts.
const maxProofLife = time.Minute

func inspectProof(t *compact, opts Options) *object {
	o := newObject("proof (a signed request)")
	t.checkHeader(o, proofType)
	t.workload(o, "signer", "iss")
	t.workload(o, "for the server", "aud")
	method := text(t.claims, "mth")
	o.field("method", "%s, and no other", method)
	if !strings.HasPrefix(method, "/") || strings.Count(method, "/") != 2 {
		o.problem("mth is not a method, /package.Service/Method: it is refused")
	}
	t.checkBody(o, "request", opts.Body)
	o.field("nonce", "%s: the server takes it once", text(t.claims, "jti"))
	if nonce, err := base64.RawURLEncoding.Strict().DecodeString(text(t.claims, "jti")); err != nil || len(nonce) != 16 {
		o.problem("jti is not 128 bits in base64url: it is refused")
	}
	t.checkLife(o, opts.Now, maxProofLife)
	t.describeRelay(o)
	t.describeScope(o)
	t.checkClaims(o, "iss", "aud", "mth", "bth", "jti", "iat", "exp", "roles", "via", "ath", "mdk", "mdh")
	o.field("key", "%s", text(t.header, "kid"))
	t.checkSignature(o, opts)
	o.unverified("whether it was used before: only the server that it is for can tell")
	o.unverified("whether signer and sender hold the role, and are not denied: see rolecall roles matrix")
	return o
}

// describeRelay explains who may send the request besides its signer.
func (t *compact) describeRelay(o *object) {
	if t.claims["via"] == nil {
		o.field("passed on by", "whoever holds the role")
		return
	}
	t.workload(o, "passed on by", "via")
	o.field("", "and nobody else")
}

// describeScope explains what the proof says of roles, user and metadata.
func (t *compact) describeScope(o *object) {
	t.describeRoles(o)
	if t.claims["ath"] == nil {
		o.field("user", "none: no access token may come along")
	} else {
		o.field("user", "the one whose access token has the SHA-256 %s", text(t.claims, "ath"))
		t.checkHash(o, "ath")
		o.unverified("whose token that is: the token is not at hand")
	}
	names, ok := texts(t.claims, "mdk")
	switch {
	case t.claims["mdk"] == nil && t.claims["mdh"] == nil:
		o.field("metadata", "none is covered")
	case !ok || len(names) == 0 || t.claims["mdh"] == nil:
		o.problem("mdk and mdh go together, a list of names and the hash of their values: it is refused")
	default:
		o.field("metadata", "covers %s", strings.Join(names, ", "))
		t.checkHash(o, "mdh")
		o.unverified("the values of that metadata: they are not at hand")
	}
}

// describeRoles explains what the signer gave up: the claim has a list of roles, separated by spaces, for each time that it did.
func (t *compact) describeRoles(o *object) {
	lists, ok := texts(t.claims, "roles")
	switch {
	case t.claims["roles"] == nil:
		o.field("roles", "all that the signer holds")
	case !ok || len(lists) == 0:
		o.problem("roles is not a list of texts with one or more in it: it is refused")
	case len(lists) > 1:
		o.field("roles", "those that all of these lists name: %s", strings.Join(lists, "; "))
	case strings.TrimSpace(lists[0]) == "":
		o.field("roles", "none: the signer gave up all of them for this request")
	default:
		o.field("roles", "%s: the signer gave up all others for this request", strings.Join(strings.Fields(lists[0]), ", "))
	}
}

// workload explains a claim that is the SPIFFE ID of a workload.
func (t *compact) workload(o *object, name, claim string) {
	value := text(t.claims, claim)
	o.field(name, "%s", value)
	if id, err := spiffeid.FromString(value); err != nil || id.Path() == "" {
		o.problem("%s is not the SPIFFE ID of a workload: it is refused", claim)
	}
}

// checkHash tells whether a claim can be a SHA-256, and returns it.
func (t *compact) checkHash(o *object, claim string) []byte {
	sum, err := base64.RawURLEncoding.Strict().DecodeString(text(t.claims, claim))
	if err != nil || len(sum) != sha256.Size {
		o.problem("%s is not a SHA-256 in base64url: it is refused", claim)
		return nil
	}
	return sum
}

// checkBody compares the hash of the message with the message, if that is at hand.
func (t *compact) checkBody(o *object, what string, body []byte) {
	o.field(what, "the message with the SHA-256 %s", text(t.claims, "bth"))
	sum := t.checkHash(o, "bth")
	if body == nil {
		o.unverified("which %s it is about: its bytes are not at hand (--body FILE)", what)
		return
	}
	if have := sha256.Sum256(body); sum != nil && !bytes.Equal(have[:], sum) {
		o.problem("it is about another %s: the bytes at hand have the SHA-256 %s", what, base64.RawURLEncoding.EncodeToString(have[:]))
	} else if sum != nil {
		o.field("", "these are the bytes at hand, %d of them", len(body))
	}
}
