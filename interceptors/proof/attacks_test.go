package proof_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	"example.com/rolecall/interceptors/internal/jws"
)

// attack is a proof that is not what it says, or not for this call. Every row is sent over mutual TLS by a workload that may
// call the method, and must not reach its handler.
type attack struct {
	name   string
	detail string // in the audit record
	proof  func(*attacker) string
	pairs  []string // metadata that comes along
	reason string   // empty: PROOF_INVALID
}

var dave = []byte{0x0a, 0x04, 'd', 'a', 'v', 'e', 0x10, 0x01} // PayRequest{to: "dave", amount: 1}

func proving(changes ...change) func(*attacker) string {
	return func(a *attacker) string { return a.prove(pay, dave, changes...) }
}

func raw(name, text string) change { return claim(name, json.RawMessage(text)) }

func resigned(signature string) func(*attacker) string {
	return func(a *attacker) string {
		text := a.prove(pay, dave)
		return text[:strings.LastIndexByte(text, '.')+1] + signature
	}
}

func ownKey(a *attacker) change { return func(d *draft) { d.key = newKey(a.t) } }

var attacks = []attack{
	{name: "for another method", detail: "for the method", proof: func(a *attacker) string { return a.prove(gift, dave) }},
	{name: "for another service", detail: "for the method", proof: func(a *attacker) string { return a.prove(till, dave) }},
	{name: "for another server", detail: "for the server", proof: func(a *attacker) string {
		return a.prove(pay, dave, claim("aud", a.ca.ID(otherBank).String()))
	}},
	{name: "another body", detail: "not the one that was signed", proof: func(a *attacker) string { return a.prove(pay, append(dave[:7:7], 2)) }},
	{name: "a body with a byte more", detail: "not the one that was signed", proof: func(a *attacker) string { return a.prove(pay, dave[:6]) }},
	{name: "with another access token (ath)", detail: "another access token", pairs: []string{"authorization", "Bearer xyz"}, proof: proving(claim("ath", hash([]byte("abc"))))},
	{name: "with none", detail: "none came along", proof: proving(claim("ath", hash([]byte("abc"))))},
	{name: "with an access token that it does not cover", detail: "covers no access token", pairs: []string{"authorization", "Bearer xyz"}, proof: proving()},
	{name: "with other metadata that a handler uses", detail: "metadata is not what was signed", pairs: []string{"bank-branch", "paris"}, proof: proving(covers("bank-branch", "rome"))},
	{name: "with metadata that a handler uses and it does not cover", detail: "does not cover the metadata bank-branch", pairs: []string{"bank-branch", "paris"}, proof: proving()},
	{name: "without the metadata that it covers", detail: "metadata is not what was signed", proof: proving(covers("bank-branch", "rome"))},
	{name: "with a second value of metadata that it covers", detail: "metadata is not what was signed", pairs: []string{"x-note", "a", "x-note", "b"}, proof: proving(covers("x-note", "a"))},
	{name: "narrowed, and the call is not", detail: "other roles", proof: proving(claim("roles", []string{"bank.payer"}))},
	{name: "not narrowed, and the call is", detail: "other roles", pairs: []string{"rolecall-role-subset", "bank.payer"}, proof: proving()},
	{name: "narrowed otherwise than the call", detail: "other roles", pairs: []string{"rolecall-role-subset", "bank.admin"}, proof: proving(claim("roles", []string{"bank.payer"}))},
	{name: "roles empty", detail: "roles", proof: proving(claim("roles", []string{}))},

	{name: "a bad signature", detail: "signature is not valid", proof: func(a *attacker) string { return a.prove(pay, dave, ownKey(a)) }},
	{name: "no signature", detail: "signature is not valid", proof: resigned("")},
	{name: "a signature in DER", detail: "signature is not valid", proof: resigned("MEQCIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAiAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")},
	{name: "a signature of zeros", detail: "signature is not valid", proof: resigned(strings.Repeat("A", 86))},

	{name: "alg none", detail: "alg \"none\"", proof: proving(header("alg", "none"))},
	{name: "alg none and no signature", detail: "alg \"none\"", proof: func(a *attacker) string {
		text := a.prove(pay, dave, header("alg", "none"))
		return text[:strings.LastIndexByte(text, '.')+1]
	}},
	{name: "alg HS256 with the public key as secret", detail: "HS256", proof: func(a *attacker) string {
		text := a.prove(pay, dave, header("alg", "HS256"))
		text = text[:strings.LastIndexByte(text, '.')]
		point, _ := a.key().PublicKey.Bytes()
		mac := hmac.New(sha256.New, point)
		mac.Write([]byte(text))
		return text + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
	}},
	{name: "alg ES384", detail: "ES384", proof: proving(header("alg", "ES384"))},
	{name: "alg es256", detail: "es256", proof: proving(header("alg", "es256"))},
	{name: "typ JWT", detail: "typ \"JWT\"", proof: proving(header("typ", "JWT"))},
	{name: "typ of an access token", detail: "at+jwt", proof: proving(header("typ", "at+jwt"))},
	{name: "typ of a receipt", detail: "rolecall-receipt+jwt", proof: proving(header("typ", "rolecall-receipt+jwt"))},
	{name: "typ as a media type", detail: "application/rolecall", proof: proving(header("typ", "application/rolecall-proof+jwt"))},
	{name: "JWS with a jwk header", detail: "more than alg", proof: func(a *attacker) string {
		key := newKey(a.t)
		jwk, _ := jws.NewJWK("k", &key.PublicKey)
		return a.prove(pay, dave, header("jwk", jwk), func(d *draft) { d.key = key })
	}},
	{name: "JWS with an x5c header", detail: "more than alg", proof: func(a *attacker) string {
		svid, _ := a.source.GetX509SVID()
		return a.prove(pay, dave, header("x5c", []string{base64.StdEncoding.EncodeToString(svid.Certificates[0].Raw)}))
	}},
	{name: "JWS with a jku header", detail: "more than alg", proof: proving(header("jku", "https://mesh.local/keys"))},
	{name: "JWS with a crit header", detail: "more than alg", proof: proving(header("crit", []string{"exp"}))},
	{name: "duplicate header members", detail: "twice", proof: proving(func(d *draft) { d.headerText = `{"alg":"none","alg":"ES256","typ":"rolecall-proof+jwt","kid":"k"}` })},
	{name: "duplicate claims", detail: "twice", proof: proving(func(d *draft) {
		text, _ := json.Marshal(d.claims)
		d.payload = `{"mth":"/bank.v1.Bank/Gift",` + string(text[1:])
	})},
	{name: "a claim that is not known", detail: "not known", proof: proving(claim("nbf", 0))},
	{name: "JSON serialization", detail: "three parts", proof: func(a *attacker) string {
		p := strings.Split(a.prove(pay, dave), ".")
		return fmt.Sprintf(`{"protected":%q,"payload":%q,"signature":%q}`, p[0], p[1], p[2])
	}},
	{name: "as many dots as fit", detail: "three parts", proof: func(*attacker) string { return strings.Repeat(".", 4<<10) }},
	{name: "a proof of 5 KB", detail: "at most 4 KiB", proof: proving(claim("mth", strings.Repeat("a", 5<<10)))},

	{name: "exp ahead of the cap", detail: "lives for 61 s", proof: proving(in("exp", 61))},
	{name: "exp a year ahead", detail: "it lives for", proof: proving(in("exp", 365*86400))},
	{name: "exp before iat", detail: "it lives for -1 s", proof: proving(in("exp", -1))},
	{name: "exp equal to iat", detail: "it lives for 0 s", proof: proving(in("exp", 0))},
	{name: "iat in the future", detail: "issued in the future", proof: proving(in("iat", 60), in("exp", 90))},
	{name: "expired", detail: "expired at", proof: proving(in("iat", -60), in("exp", -6)), reason: "PROOF_EXPIRED"},
	{name: "exp missing", detail: "exp", proof: proving(without("exp"))},
	{name: "exp a string", detail: "exp is not a whole number", proof: proving(claim("exp", "1"))},
	{name: "exp 1e30", detail: "exp is not a whole number", proof: proving(raw("exp", "1e30"))},
	{name: "exp beyond 53 bits", detail: "exp is", proof: proving(raw("exp", "9223372036854775807"))},
	{name: "iat missing", detail: "iat", proof: proving(without("iat"))},
	{name: "iat negative", detail: "iat is not a whole number", proof: proving(raw("iat", "-1"))},

	{name: "nonce of 1 KB", detail: "jti is not 16 bytes", proof: proving(claim("jti", strings.Repeat("A", 1024)))},
	{name: "nonce empty", detail: "jti is not", proof: proving(claim("jti", ""))},
	{name: "nonce missing", detail: "jti is not", proof: proving(without("jti"))},
	{name: "nonce that is not base64url", detail: "jti is not 16 bytes", proof: proving(claim("jti", "AAAAAAAAAAAAAAAAAAAA+/"))},
	{name: "nonce in another spelling", detail: "jti is not 16 bytes", proof: proving(claim("jti", "AAAAAAAAAAAAAAAAAAAAAB"))},
	{name: "nonce with a line end", detail: "jti is not 16 bytes", proof: proving(claim("jti", "AAAAAAAAAAAAAAAAAAAAA\n"))},
	{name: "nonce of 15 bytes", detail: "jti is not 16 bytes", proof: proving(claim("jti", "AAAAAAAAAAAAAAAAAAAA"))},
	{name: "nonce a number", detail: "jti is not", proof: proving(claim("jti", 7))},

	{name: "iss missing", detail: "iss is not", proof: proving(without("iss"))},
	{name: "iss that is no SPIFFE ID", detail: "iss", proof: proving(claim("iss", "payer"))},
	{name: "iss without a path", detail: "iss", proof: proving(claim("iss", "spiffe://mesh.local"))},
	{name: "iss in upper case", detail: "iss", proof: proving(claim("iss", "SPIFFE://mesh.local/service/payer"))},
	{name: "aud an array", detail: "aud", proof: proving(claim("aud", []string{"spiffe://mesh.local/service/bank"}))},
	{name: "aud missing", detail: "aud", proof: proving(without("aud"))},
	{name: "mth missing", detail: "mth", proof: proving(without("mth"))},
	{name: "bth missing", detail: "bth", proof: proving(without("bth"))},
	{name: "mdk without mdh", detail: "mdk and mdh", proof: proving(claim("mdk", []string{"a"}))},
	{name: "mdk not sorted", detail: "sorted", proof: proving(claim("mdk", []string{"b", "a"}), claim("mdh", "x"))},
	{name: "mdk with the same name twice", detail: "sorted", proof: proving(claim("mdk", []string{"a", "a"}), claim("mdh", "x"))},
	{name: "mdk with a name that is not covered", detail: "sorted", proof: proving(claim("mdk", []string{"authorization"}), claim("mdh", "x"))},

	{name: "kid of another key", detail: "knows no such key", proof: proving(header("kid", strings.Repeat("A", 43))), reason: "PROOF_SIGNER_UNKNOWN"},
	{name: "kid with a path", detail: "knows no such key", proof: proving(header("kid", "../../dev/null")), reason: "PROOF_SIGNER_UNKNOWN"},
	{name: "kid missing", detail: "kid", proof: proving(func(d *draft) { delete(d.header, "kid") })},
	{name: "iss of another workload", detail: "knows no such key", proof: func(a *attacker) string {
		return a.prove(pay, dave, claim("iss", a.ca.ID(second).String()))
	}, reason: "PROOF_SIGNER_UNKNOWN"},
}

// covers has a proof cover one name.
func covers(name string, values ...string) change {
	return func(d *draft) {
		d.claims["mdk"], d.claims["mdh"] = []string{name}, digestOf(name, values...)
	}
}

func TestAttacksWithProofsAreRefused(t *testing.T) {
	t.Parallel()
	m := newMesh(t, func(c *meshConfig) { c.config.Metadata = []string{"bank-branch"} })
	a := m.attacker(payer)
	t.Run("rows", func(t *testing.T) {
		for i, row := range attacks {
			t.Run(row.name, func(t *testing.T) {
				t.Parallel()
				id := fmt.Sprintf("attack-%d", i)
				pairs := append([]string{"rolecall-proof", row.proof(a), "x-request-id", id}, row.pairs...)
				_, err := send(timeout(t), a.conn, pay, dave, pairs...)
				reason := row.reason
				if reason == "" {
					reason = "PROOF_INVALID"
				}
				refused(t, err, codes.Unauthenticated, reason)
				record := m.audit.find(t, map[string]any{"request_id": id, "verdict": "denied", "reason": reason})
				if detail, _ := record["detail"].(string); !strings.Contains(detail, row.detail) || len(detail) > 512 {
					t.Errorf("the audit record says %q, want %q in it", detail, row.detail)
				}
			})
		}
	})
	if n := m.bank.reached.Load(); n != 0 {
		t.Errorf("a handler was reached %d times", n)
	}
	// The proof that all others were made of.
	for name, pairs := range map[string][]string{
		"plain":              {"rolecall-proof", a.prove(pay, dave)},
		"covering metadata":  {"rolecall-proof", a.prove(pay, dave, covers("bank-branch", "rome")), "bank-branch", "rome"},
		"with a token":       {"rolecall-proof", a.prove(pay, dave, claim("ath", hash([]byte("abc")))), "authorization", "Bearer abc"},
		"narrowed":           {"rolecall-proof", a.prove(pay, dave, claim("roles", []string{"bank.payer"})), "rolecall-role-subset", "bank.payer"},
		"with more metadata": {"rolecall-proof", a.prove(pay, dave), "x-note", "nobody reads it"},
	} {
		if _, err := send(timeout(t), a.conn, pay, dave, pairs...); err != nil {
			t.Errorf("a good proof, %s: %v", name, err)
		}
	}
	// None, and two.
	_, err := send(timeout(t), a.conn, pay, dave)
	refused(t, err, codes.Unauthenticated, "PROOF_REQUIRED")
	_, err = send(timeout(t), a.conn, pay, dave, "rolecall-proof", a.prove(pay, dave), "rolecall-proof", a.prove(pay, dave))
	refused(t, err, codes.Unauthenticated, "PROOF_INVALID")
}

// digestOf hashes one name and its values by hand.
func digestOf(name string, values ...string) string {
	text := number(len(name)) + name + number(len(values))
	for _, value := range values {
		text += number(len(value)) + value
	}
	return hash([]byte(text))
}

func number(n int) string { return string([]byte{0, 0, 0, byte(n)}) }
