package inspect

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// maxCompact bounds a token that is looked at, in bytes.
const maxCompact = 64 << 10

// The types of tokens that are explained here, as they stand in the header.
const (
	proofType   = "rolecall-proof+jwt"
	receiptType = "rolecall-receipt+jwt"
	accessType  = "at+jwt" // RFC 9068 §2.1
)

// compact is a JSON Web Signature in its compact form (RFC 7515 §7.1), read leniently: what a verifier would refuse is to be
// explained.
type compact struct {
	header, claims map[string]json.RawMessage
	signed         string // what the signature is over
	signature      []byte
	problems       []string
}

// parseCompact returns nil if the text is no token.
func parseCompact(text []byte) *compact {
	if len(text) > maxCompact || bytes.Count(text, []byte(".")) != 2 {
		return nil
	}
	parts := strings.Split(string(text), ".")
	t := &compact{signed: parts[0] + "." + parts[1]}
	var ok bool
	if t.header, ok = t.object("header", parts[0]); !ok || t.header["alg"] == nil {
		return nil
	}
	if t.claims, ok = t.object("claims", parts[1]); !ok {
		return nil
	}
	signature, err := base64.RawURLEncoding.Strict().DecodeString(parts[2])
	if err != nil {
		t.problems = append(t.problems, "the signature is not base64url without padding (RFC 7515 §2)")
	}
	t.signature = signature
	return t
}

// object decodes one part. Of a key that occurs twice it says so: two readers may take a different one (RFC 7519 §4).
func (t *compact) object(name, part string) (map[string]json.RawMessage, bool) {
	data, err := base64.RawURLEncoding.DecodeString(part)
	var members map[string]json.RawMessage
	if err != nil || json.Unmarshal(data, &members) != nil || members == nil {
		return nil, false
	}
	d := json.NewDecoder(bytes.NewReader(data))
	_, _ = d.Token()
	seen := map[string]bool{}
	for d.More() {
		key, _ := d.Token()
		var value json.RawMessage
		if d.Decode(&value) != nil {
			break
		}
		if k, ok := key.(string); ok && seen[k] {
			t.problems = append(t.problems, fmt.Sprintf("the %s hold %q twice: every verifier refuses it", name, k))
		} else if ok {
			seen[k] = true
		}
	}
	return members, true
}

// kind returns the type that the token is meant to be of, also where its header says another.
func (t *compact) kind() string {
	typ := strings.TrimPrefix(strings.ToLower(text(t.header, "typ")), "application/")
	switch {
	case typ == proofType || typ == receiptType || typ == accessType:
		return typ
	case t.claims["bth"] != nil && t.claims["prf"] != nil:
		return receiptType
	case t.claims["bth"] != nil && t.claims["mth"] != nil:
		return proofType
	}
	return ""
}

// checkHeader says what a verifier of the mesh would have against the header.
func (t *compact) checkHeader(o *object, typ string) {
	o.Problems = append(o.Problems, t.problems...)
	if got := text(t.header, "typ"); got != typ {
		o.problem("its typ is %q and not %s: it is refused, so that no token passes for one of another kind (RFC 8725 §3.11)", got, typ)
	}
	if alg := text(t.header, "alg"); alg != "ES256" {
		o.problem("its alg is %q: the mesh accepts ES256 alone (RFC 8725 §3.1)", alg)
	}
	if text(t.header, "kid") == "" {
		o.problem("its header names no key (kid)")
	}
	for _, name := range slices.Sorted(maps.Keys(t.header)) {
		switch name {
		case "alg", "typ", "kid":
		case "jwk", "jku", "x5c", "x5u":
			o.problem("its header brings a key along (%s): a verifier never takes the key from what it is to verify, and refuses it", name)
		default:
			o.problem("its header holds %q beside alg, typ and kid: it is refused", name)
		}
	}
}

// checkClaims says which claims are none of those that the mesh knows: what a verifier does not know may be a condition.
func (t *compact) checkClaims(o *object, known ...string) {
	for _, name := range slices.Sorted(maps.Keys(t.claims)) {
		if !slices.Contains(known, name) {
			o.problem("it holds the claim %q, which means nothing here: it is refused", name)
		}
	}
}

// text returns a member that is a string, else "".
func text(members map[string]json.RawMessage, name string) string {
	var s string
	_ = json.Unmarshal(members[name], &s)
	return s
}

// texts returns a member that is an array of strings, and whether it is.
func texts(members map[string]json.RawMessage, name string) ([]string, bool) {
	var list []string
	err := json.Unmarshal(members[name], &list)
	return list, err == nil && list != nil
}

// seconds returns a member that is a time in whole seconds since 1970.
func seconds(members map[string]json.RawMessage, name string) (time.Time, bool) {
	var n int64
	if members[name] == nil || json.Unmarshal(members[name], &n) != nil || n < 0 || n > 1<<53 {
		return time.Time{}, false
	}
	return time.Unix(n, 0), true
}

// leeway is by how much clocks may differ, as verifiers have it by default.
const leeway = 5 * time.Second

// checkLife explains when a token holds, and says what is wrong with that. An exp is needed.
func (t *compact) checkLife(o *object, now time.Time, most time.Duration) {
	issued, hasIssued := seconds(t.claims, "iat")
	expires, hasExpires := seconds(t.claims, "exp")
	if hasIssued {
		o.field("signed", "%s", when(issued, now))
	} else {
		o.problem("it does not say when it was made (iat): it is refused")
	}
	if hasIssued && issued.After(now.Add(leeway)) {
		o.problem("it was made in the future: compare the clocks")
	}
	if !hasExpires {
		o.problem("it has no end (exp): it is refused")
		return
	}
	o.field("valid until", "%s", when(expires, now))
	if !now.Before(expires) {
		o.problem("it expired at %s", expires.UTC().Format(time.RFC3339))
	}
	if !hasIssued {
		return
	}
	switch life := expires.Sub(issued); {
	case life <= 0:
		o.problem("it ends before it begins")
	case life > most:
		o.problem("it lives for %s, and verifiers accept at most %s", life, most)
	}
}
