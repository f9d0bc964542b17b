package usertoken_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"example.com/rolecall/interceptors/internal/feature"
	"example.com/rolecall/interceptors/internal/jws"
	"example.com/rolecall/interceptors/usertoken"
)

// attack is a token that is not what it says. Every row is sent over mutual TLS to a method that asks for a user, and must
// not reach its handler.
type attack struct {
	name   string
	detail string // in the audit record
	token  func(*attacked) string
}

// attacked is what tokens are made of.
type attacked struct {
	*mesh
	listener string // a URL that nobody must ask for
}

func minted(changes ...func(*draft)) func(*attacked) string {
	return func(a *attacked) string { return a.tokens.mint("alice", []string{"shop.vip"}, changes...) }
}

// at is a claim that is so many seconds from now.
func at(name string, seconds int64) func(*draft) {
	return func(d *draft) { d.claims[name] = d.now + seconds }
}

// rawClaim is a claim whose JSON is written by hand.
func rawClaim(name, text string) func(*draft) { return claim(name, json.RawMessage(text)) }

func alg(name string) func(*draft) { return header("alg", name) }

// unsigned replaces the signature of a token.
func unsigned(token, signature string) string {
	return token[:strings.LastIndexByte(token, '.')+1] + signature
}

// hs256 is a token under an HMAC with the key that everybody may know.
func hs256(secret func(*ecdsa.PublicKey) []byte) func(*attacked) string {
	return func(a *attacked) string {
		token := a.tokens.mint("alice", nil, alg("HS256"))
		mac := hmac.New(sha256.New, secret(&a.tokens.keys["k1"].PublicKey))
		mac.Write([]byte(token[:strings.LastIndexByte(token, '.')]))
		return unsigned(token, base64.RawURLEncoding.EncodeToString(mac.Sum(nil)))
	}
}

func point(key *ecdsa.PublicKey) []byte {
	b, err := key.Bytes()
	if err != nil {
		panic(err)
	}
	return b
}

func jwkText(key *ecdsa.PublicKey) []byte {
	k, err := jws.NewJWK("k1", key)
	if err != nil {
		panic(err)
	}
	text, err := json.Marshal(k)
	if err != nil {
		panic(err)
	}
	return text
}

func fixed(token string) func(*attacked) string { return func(*attacked) string { return token } }

// ownKey signs with a key that the attacker has made.
func ownKey(d *draft) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	d.key = key
}

var attacks = []attack{
	{"alg none", "alg \"none\"", func(a *attacked) string { return unsigned(minted(alg("none"))(a), "") }},
	{"alg none with a good signature", "alg \"none\"", minted(alg("none"))},
	{"alg noNE", "alg \"noNE\"", func(a *attacked) string { return unsigned(minted(alg("noNE"))(a), "") }},
	{"HS256 with the public key as secret", "HS256", hs256(point)},
	{"HS256 with the public key's JSON as secret", "HS256", hs256(jwkText)},
	{"one key with two algorithms", "ES384", minted(alg("ES384"))},
	{"RS256 with a key on a curve", "RS256", minted(alg("RS256"))},
	{"signed with a key of the attacker's", "signature is not valid", minted(ownKey)},
	{"no signature", "signature is not valid", func(a *attacked) string { return unsigned(minted()(a), "") }},

	{"kid with path", "no key of the name", minted(header("kid", "../../../../dev/null"), ownKey)},
	{"kid with SQL", "no key of the name", minted(header("kid", "k1' UNION SELECT 'k1"), ownKey)},
	{"kid of 10 KB", "of at most 8 KiB", minted(header("kid", strings.Repeat("k", 10<<10)))},
	{"kid of 600 bytes", "longer than 128 bytes", minted(header("kid", strings.Repeat("k", 600)))},
	{"kid unknown", "no key of the name", minted(header("kid", "k2"))},
	{"kid absent", "kid is not a string", minted(func(d *draft) { delete(d.header, "kid") })},

	{"jku", "more than alg", func(a *attacked) string { return minted(header("jku", a.listener+"/jku"), ownKey)(a) }},
	{"x5u", "more than alg", func(a *attacked) string { return minted(header("x5u", a.listener+"/x5u"), ownKey)(a) }},
	{"jku beside a good key", "more than alg", func(a *attacked) string { return minted(header("jku", a.listener+"/jku"))(a) }},
	{"jwk", "more than alg", minted(func(d *draft) { ownKey(d); d.header["jwk"] = json.RawMessage(jwkText(&d.key.PublicKey)) })},
	{"x5c", "more than alg", func(a *attacked) string {
		cert, _ := a.ca.Issue(nobody)
		return minted(header("x5c", []string{base64.StdEncoding.EncodeToString(cert.Raw)}), ownKey)(a)
	}},
	{"crit", "more than alg", minted(header("crit", []string{"exp"}))},
	{"iss that is a URL", "issuer that is not configured", func(a *attacked) string { return minted(claim("iss", a.listener), ownKey)(a) }},

	{"issuer missing", "iss is not a string", minted(without("iss"))},
	{"issuer of another trust domain", "issuer", minted(claim("iss", "spiffe://other.local/service/tokens"))},
	{"issuer that is another service", "issuer", minted(claim("iss", "spiffe://mesh.local/service/shop"))},
	{"audience missing", "aud", minted(without("aud"))},
	{"audience empty", "aud", minted(claim("aud", ""))},
	{"audience other", "aud", minted(claim("aud", "spiffe://other.local"))},
	{"audience with a path", "aud", minted(claim("aud", "spiffe://mesh.local/service/shop"))},
	{"audience array", "aud", minted(claim("aud", []string{"spiffe://mesh.local"}))},
	{"audience array with another", "aud", minted(claim("aud", []string{"spiffe://other.local", "spiffe://mesh.local"}))},

	{"exp missing", "exp", minted(without("exp"))},
	{"exp float", "exp is not a whole number", minted(func(d *draft) { d.claims["exp"] = json.RawMessage(fmt.Sprintf("%d.5", time.Now().Unix()+60)) })},
	{"exp string", "exp is not a whole number", minted(func(d *draft) { d.claims["exp"] = fmt.Sprint(time.Now().Unix() + 60) })},
	{"exp 1e30", "exp is not a whole number", minted(rawClaim("exp", "1e30"))},
	{"exp null", "exp is not a whole number", minted(rawClaim("exp", "null"))},
	{"exp negative", "exp is not a whole number", minted(rawClaim("exp", "-1"))},
	{"exp 2^53", "exp is too large", minted(rawClaim("exp", "9007199254740992"))},
	{"exp 2^53-1", "at most 10m0s", minted(rawClaim("exp", "9007199254740991"))},
	{"exp beyond the cap", "at most 10m0s", minted(at("exp", 601), at("iat", 0))},
	{"exp before iat", "at most 10m0s", minted(at("exp", 10), at("iat", 11))},
	{"nbf ahead", "not valid yet", minted(at("nbf", 60))},
	{"nbf missing", "nbf", minted(without("nbf"))},
	{"nbf string", "nbf", minted(claim("nbf", "0"))},
	{"iat ahead", "future", minted(at("iat", 60), at("exp", 120))},
	{"iat missing", "iat", minted(without("iat"))},

	{"refresh as access", "three parts", func(*attacked) string { return rand.Text() + rand.Text() }},
	{"JWT-SVID as user token", "typ \"JWT\"", minted(header("typ", "JWT"), claim("sub", "spiffe://mesh.local/operator/bob"), claim("aud", []string{"spiffe://mesh.local"}))},
	{"proof as token", "typ \"rolecall-proof+jwt\"", minted(header("typ", "rolecall-proof+jwt"))},
	{"key set as token", "typ \"rolecall-keys+jwt\"", func(a *attacked) string { return a.tokens.present().GetJws() }},
	{"typ in upper case", "typ \"AT+JWT\"", minted(header("typ", "AT+JWT"))},
	{"typ as a media type", "typ \"application/at+jwt\"", minted(header("typ", "application/at+jwt"))},

	{"JSON serialization", "three parts", func(a *attacked) string {
		p := strings.Split(minted()(a), ".")
		return fmt.Sprintf(`{"protected":%q,"payload":%q,"signature":%q}`, p[0], p[1], p[2])
	}},
	{"duplicate claims", "twice", minted(func(d *draft) {
		text, _ := json.Marshal(d.claims)
		d.payload = `{"sub":"mallory",` + string(text[1:])
	})},
	{"duplicate header members", "twice", minted(func(d *draft) { d.headerText = `{"alg":"none","alg":"ES256","typ":"at+jwt","kid":"k1"}` })},
	{"five-part JWE", "three parts", func(a *attacked) string { return "eyJhbGciOiJkaXIifQ..AAAA.BBBB.CCCC" }},
	{"as many dots as fit", "three parts", fixed(strings.Repeat(".", 8<<10))},

	{"sub missing", "sub", minted(without("sub"))},
	{"sub empty", "sub", minted(claim("sub", ""))},
	{"sub of 257 bytes", "too long", minted(claim("sub", strings.Repeat("a", 257)))},
	{"sub that is a list", "sub", minted(claim("sub", []string{"alice"}))},
	{"sid missing", "sid", minted(without("sid"))},
	{"jti missing", "jti", minted(without("jti"))},
	{"roles missing", "roles", minted(without("roles"))},
	{"role_subset without held_roles", "held_roles", minted(claim("role_subset", []string{}))},
	{"held_roles without role_subset", "role_subset", minted(claim("held_roles", []string{"shop.vip"}))},
	{"roles as one string", "roles", minted(claim("roles", "shop.vip"))},
	{"client_id that is no SPIFFE ID", "client_id", minted(claim("client_id", "bob"))},
	{"generation missing", "gen", minted(without("gen"))},
	{"generation overflow", "gen is too large", minted(rawClaim("gen", "9007199254740992"))},
	{"generation beyond 64 bits", "gen is not a whole number", minted(rawClaim("gen", "18446744073709551617"))},
	{"generation negative", "gen is not a whole number", minted(rawClaim("gen", "-1"))},
	{"generation with an exponent", "gen is not a whole number", minted(rawClaim("gen", "1e3"))},
}

func TestAttacksWithTokensAreRefused(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	trap := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
	t.Cleanup(trap.Close)
	a := &attacked{newMesh(t), trap.URL}
	conn := a.dial(seller)
	t.Run("rows", func(t *testing.T) {
		for i, row := range attacks {
			t.Run(row.name, func(t *testing.T) {
				t.Parallel()
				token := row.token(a)
				id := fmt.Sprintf("attack-%d", i)
				ctx := metadata.AppendToOutgoingContext(timeout(t), "authorization", "Bearer "+token, "x-request-id", id)
				refused(t, invoke(ctx, conn, self), codes.Unauthenticated, "USER_TOKEN_INVALID")
				record := a.audit.find(t, map[string]any{"request_id": id, "verdict": "denied", "reason": "USER_TOKEN_INVALID"})
				if detail, _ := record["detail"].(string); !strings.Contains(detail, row.detail) || len(detail) > 512 {
					t.Errorf("the audit record says %q, want %q in it", detail, row.detail)
				}
				if record["user"] != nil {
					t.Errorf("the audit record names the user %v, for whom nobody vouches", record["user"])
				}
				// A method that asks for a role of the user's refuses it as well.
				refused(t, invoke(ctx, conn, buy), codes.Unauthenticated, "USER_TOKEN_INVALID")
			})
		}
	})
	if n := a.shop.reached.Load(); n != 0 {
		t.Errorf("a handler was reached %d times", n)
	}
	if n := asked.Load(); n != 0 {
		t.Errorf("a token made the verifier ask for %d things elsewhere", n)
	}
	if n := usertoken.Cached(a.feature.running); n != 0 {
		t.Errorf("%d tokens are remembered that are not good", n)
	}
	// The token that all others were made of.
	if err := invoke(metadata.AppendToOutgoingContext(timeout(t), "authorization", "Bearer "+minted()(a)), conn, self); err != nil {
		t.Errorf("a good token: %v", err)
	}
}

// A text of a million dots does not fit into the headers of a call; whatever brings it, it is not split.
func TestAMillionDotsAreCountedAndNotSplit(t *testing.T) {
	m := newMesh(t)
	text := strings.Repeat(".", 1_000_000)
	conn := m.dial(seller)
	if err := invoke(metadata.AppendToOutgoingContext(timeout(t), "authorization", "Bearer "+text), conn, self); err == nil {
		t.Error("a million dots went through")
	}
	must(t, conn.Close())           // what a new connection takes is not to be counted
	least := uint64(math.MaxUint64) // of several: what goes on in the background counts too
	for range 10 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, verdict, _ := m.feature.verify(text)
		runtime.ReadMemStats(&after)
		least = min(least, after.TotalAlloc-before.TotalAlloc)
		if verdict != feature.Invalid {
			t.Errorf("verdict %v, want invalid", verdict)
		}
	}
	// The slice of the parts alone would take 16 MB.
	if least > 2_000_000 {
		t.Errorf("a million dots took %d bytes", least)
	}
}

func TestUnknownKeyIDsFetchKeysAtMostOnceASecond(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	conn := m.dial(seller)
	before, start := m.tokens.fetches.Load(), time.Now()
	var sent atomic.Int64
	var callers sync.WaitGroup
	for range 8 {
		callers.Go(func() {
			for time.Since(start) < 2500*time.Millisecond || m.tokens.fetches.Load() == before {
				token := m.tokens.mint("alice", nil, header("kid", rand.Text()), ownKey)
				err := invoke(metadata.AppendToOutgoingContext(timeout(t), "authorization", "Bearer "+token), conn, self)
				if reason := infoOf(err).GetReason(); reason != "USER_TOKEN_INVALID" {
					t.Errorf("got %v with %s, want USER_TOKEN_INVALID", err, reason)
				}
				sent.Add(1)
			}
		})
	}
	callers.Wait()
	fetched, most := m.tokens.fetches.Load()-before, int64(time.Since(start)/time.Second)+1
	t.Logf("%d tokens with invented key identifiers in %s: %d fetches", sent.Load(), time.Since(start).Round(time.Millisecond), fetched)
	if fetched < 1 || fetched > most {
		t.Errorf("%d fetches, want one at least and %d at most", fetched, most)
	}
	// And a key that is really new is found, once a second has passed.
	m.tokens.change(func() { m.tokens.keys["k2"] = m.tokens.keys["k1"]; m.tokens.keys["k3"] = newKey(t) })
	eventually(t, "token of a new key", func() bool {
		token := m.tokens.mint("alice", nil, header("kid", "k3"), func(d *draft) { d.key = m.tokens.keys["k3"] })
		_, verdict, _ := m.feature.verify(token)
		return verdict == feature.Good
	})
}

// TestLeewayToTheSecond has the clock stand still.
func TestLeewayToTheSecond(t *testing.T) {
	t.Parallel()
	for _, leeway := range []struct {
		configured time.Duration
		seconds    int64
	}{{0, 5}, {usertoken.NoLeeway, 0}, {time.Minute, 60}} {
		t.Run(leeway.configured.String(), func(t *testing.T) {
			t.Parallel()
			standing := time.Now()
			standing = time.Unix(standing.Unix(), 0)
			m := newMesh(t, func(c *meshConfig) {
				c.config.Leeway = leeway.configured
				c.now = func() time.Time { return standing }
			})
			now, l := standing.Unix(), leeway.seconds
			for _, c := range []struct {
				name          string
				iat, nbf, exp int64 // from now
				want          feature.Verdict
			}{
				{"the last second before exp and leeway", -300, -300, -l + 1, feature.Good},
				{"exp and leeway", -300, -300, -l, feature.Expired},
				{"a second later", -300, -300, -l - 1, feature.Expired},
				{"nbf is ahead by the leeway", 0, l, 600, feature.Good},
				{"nbf is ahead by a second more", 0, l + 1, 600, feature.Invalid},
				{"iat is ahead by the leeway", l, l, 600 + l, feature.Good},
				{"iat is ahead by a second more", l + 1, 0, 600, feature.Invalid},
				{"as long a life as is allowed", 0, 0, 600, feature.Good},
				{"a second longer", 0, 0, 601, feature.Invalid},
				{"a second longer, which began earlier", -100, -100, 501, feature.Invalid},
			} {
				token := m.tokens.mint("alice", nil, claim("iat", now+c.iat), claim("nbf", now+c.nbf), claim("exp", now+c.exp))
				for i := range 2 { // once with the signature, and once remembered
					if _, got, detail := m.feature.verify(token); got != c.want {
						t.Errorf("%s, %d: verdict %d (%s), want %d", c.name, i+1, got, detail, c.want)
					}
				}
			}
		})
	}
}
