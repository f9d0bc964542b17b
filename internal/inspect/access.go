package inspect

import (
	"cmp"
	"encoding/json"
	"strings"
	"time"
)

const (
	// ownLife is the longest life of an access token that the service tokens gives, and otherLife that of other issuers' that
	// verifiers accept at all.
	ownLife   = 10 * time.Minute
	otherLife = 24 * time.Hour
	// maxRoles bounds how many roles are shown.
	maxRoles = 100
)

// inspectAccess explains an access token of RFC 9068. What a header may hold differs: only that of the mesh's own tokens is
// known to the letter.
func inspectAccess(t *compact, opts Options) *object {
	o := newObject("access token")
	own := strings.HasPrefix(text(t.claims, "iss"), "spiffe://")
	life := otherLife
	if own {
		life = ownLife
		t.checkHeader(o, accessType)
	} else {
		t.checkOther(o)
	}
	t.required(o, "user", "sub")
	roles, _ := texts(t.claims, "roles")
	if held, narrowed := texts(t.claims, "held_roles"); narrowed {
		o.field("holds", "%s", list(held))
		roles, _ = texts(t.claims, "role_subset")
	}
	o.field("roles", "%s", list(roles))
	t.required(o, "issuer", "iss")
	t.audience(o)
	if client := text(t.claims, "client_id"); client != "" {
		o.field("login through", "%s", client)
	}
	if at, ok := seconds(t.claims, "auth_time"); ok {
		o.field("logged in", "%s", when(at, opts.Now))
	}
	t.checkLife(o, opts.Now, life)
	if start, ok := seconds(t.claims, "nbf"); ok && start.After(opts.Now.Add(leeway)) {
		o.problem("it does not hold before %s", when(start, opts.Now))
	}
	if session := text(t.claims, "sid"); session != "" {
		o.field("session", "%s", session)
	}
	if raw := t.claims["gen"]; raw != nil {
		var n int64
		if json.Unmarshal(raw, &n) == nil {
			o.field("generation", "%d", n)
		} else {
			o.problem("claims: gen is no number")
		}
	}
	if t.claims["ext"] != nil {
		o.field("attributes", "there are some (claim ext)")
	}
	o.field("algorithm", "%s", text(t.header, "alg"))
	o.field("key", "%s", text(t.header, "kid"))
	o.unverified("the signature, so all of this is what it says, not what is true: services get the issuer's keys, and verify it")
	o.unverified("whether it was revoked: only services know")
	return o
}

// checkOther is checkHeader for a token of another issuer, whose header may hold more.
func (t *compact) checkOther(o *object) {
	o.Problems = append(o.Problems, t.problems...)
	switch alg := text(t.header, "alg"); alg {
	case "RS256", "PS256", "ES256", "ES384":
	default:
		o.problem("its alg is %q: of other issuers RS256, PS256, ES256 and ES384 are accepted", alg)
	}
	for _, name := range []string{"jwk", "jku", "x5c", "x5u", "crit"} {
		if t.header[name] != nil {
			o.problem("its header holds %s: it is refused", name)
		}
	}
}

// required shows a claim that every access token has.
func (t *compact) required(o *object, name, claim string) {
	value := text(t.claims, claim)
	if value == "" {
		o.problem("it names no %s (%s), so it must be refused everywhere", name, claim)
		return
	}
	o.field(name, "%s", value)
}

// audience shows for whom the token is: one name, or with other issuers several.
func (t *compact) audience(o *object) {
	if several, ok := texts(t.claims, "aud"); ok && len(several) > 0 {
		o.field("audience", "%s", strings.Join(several, ", "))
		return
	}
	t.required(o, "audience", "aud")
}

func list(roles []string) string {
	return cmp.Or(strings.Join(roles[:min(len(roles), maxRoles)], ", "), "none")
}
