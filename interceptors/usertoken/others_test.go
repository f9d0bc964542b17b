package usertoken_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"io"
	"log"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"example.com/rolecall/interceptors"
	"example.com/rolecall/interceptors/internal/feature"
	"example.com/rolecall/interceptors/internal/jws"
	"example.com/rolecall/interceptors/usertoken"
)

const (
	company  = "https://login.company.example"
	audience = "https://api.company.example"
)

// provider is a company's identity provider.
type provider struct {
	t    testing.TB
	rsa  *rsa.PrivateKey
	keys map[string]*ecdsa.PrivateKey
}

func newProvider(t testing.TB) *provider {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	must(t, err)
	return &provider{t: t, rsa: key, keys: map[string]*ecdsa.PrivateKey{"e1": newKey(t)}}
}

// jwks returns the public keys, as such a provider publishes them.
func (p *provider) jwks() []byte {
	text := base64.RawURLEncoding.EncodeToString
	set := []any{
		map[string]string{"kty": "RSA", "kid": "r1", "use": "sig", "alg": "RS256", "n": text(p.rsa.N.Bytes()), "e": text(big.NewInt(int64(p.rsa.E)).Bytes())},
		map[string]string{"kty": "RSA", "kid": "enc", "use": "enc", "alg": "RSA-OAEP", "n": text(p.rsa.N.Bytes()), "e": "AQAB"},
	}
	for id, key := range p.keys {
		jwk, err := jws.NewJWK(id, &key.PublicKey)
		must(p.t, err)
		set = append(set, jwk)
	}
	out, err := json.Marshal(map[string]any{"keys": set})
	must(p.t, err)
	return out
}

// mint signs a token with RS256, or with ES256 if the draft has a key.
func (p *provider) mint(changes ...func(*draft)) string {
	now := time.Now().Unix()
	d := &draft{
		header: map[string]any{"alg": "RS256", "typ": "at+jwt", "kid": "r1", "x5t": "thumb"},
		claims: map[string]any{"iss": company, "aud": audience, "sub": "00u-alice", "iat": now, "exp": now + 3600, "groups": []string{"shop.customer", "everyone"}},
		now:    now,
	}
	for _, change := range changes {
		change(d)
	}
	header, err := json.Marshal(d.header)
	must(p.t, err)
	payload, err := json.Marshal(d.claims)
	must(p.t, err)
	if d.key != nil {
		return sign(p.t, d.key, header, payload)
	}
	signed := base64.RawURLEncoding.EncodeToString(header) + "." + base64.RawURLEncoding.EncodeToString(payload)
	sum := sha256.Sum256([]byte(signed))
	signature, err := rsa.SignPKCS1v15(rand.Reader, p.rsa, crypto.SHA256, sum[:])
	must(p.t, err)
	return signed + "." + base64.RawURLEncoding.EncodeToString(signature)
}

func withOthers(issuers ...usertoken.Issuer) func(*meshConfig) {
	return func(c *meshConfig) { c.config.Others = issuers }
}

func fromFile(t testing.TB, p *provider) (usertoken.Issuer, string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "jwks.json")
	must(t, os.WriteFile(file, p.jwks(), 0o600))
	return usertoken.Issuer{URL: company, Audience: audience, JWKSFile: file, RolesClaim: "groups"}, file
}

func TestACompanysOwnIssuerIsAcceptedBesideOurs(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	issuer, _ := fromFile(t, p)
	m := newMesh(t, withOthers(issuer))
	conn := m.dial(seller)
	var issued, subject string
	var own bool
	m.shop.handling(func(ctx context.Context) error {
		user, _ := interceptors.CallerFrom(ctx).User()
		issued, subject, own = user.Issuer(), user.Subject(), user.Own()
		return nil
	})
	must(t, invoke(interceptors.AsUser(timeout(t), p.mint()), conn, buy))
	if issued != company || subject != "00u-alice" || own {
		t.Errorf("the handler sees %s of %s, own: %v", subject, issued, own)
	}
	m.audit.find(t, map[string]any{"verdict": "allowed", "user": "00u-alice", "user_issuer": company})
	must(t, invoke(interceptors.AsUser(timeout(t), m.tokens.mint("alice", []string{"shop.vip"})), conn, buy))
	if issued != "spiffe://mesh.local/service/tokens" || !own {
		t.Errorf("the handler sees a user of %s, own: %v", issued, own)
	}
	must(t, invoke(interceptors.AsUser(timeout(t), p.mint(claim("aud", []string{"other", audience}))), conn, buy))
	must(t, invoke(interceptors.AsUser(timeout(t), p.mint(header("alg", "ES256"), header("kid", "e1"), func(d *draft) { d.key = p.keys["e1"] })), conn, buy))
	refused(t, invoke(interceptors.AsUser(timeout(t), p.mint(without("groups"))), conn, buy), codes.PermissionDenied, "USER_ROLE_REQUIRED")

	// Our revocations are not for their users, who may have the same names.
	m.tokens.revoke(generationRaised("00u-alice", 1<<50))
	m.revokedSoon(t, m.tokens.mint("00u-alice", nil))
	must(t, invoke(interceptors.AsUser(timeout(t), p.mint()), conn, buy))
}

func TestAttacksWithTokensOfACompanysIssuerAreRefused(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	trap := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
	t.Cleanup(trap.Close)
	p := newProvider(t)
	issuer, _ := fromFile(t, p)
	second := issuer
	second.URL = "https://login.partner.example"
	q := newProvider(t)
	second.JWKSFile = filepath.Join(t.TempDir(), "jwks.json")
	must(t, os.WriteFile(second.JWKSFile, q.jwks(), 0o600))
	m := newMesh(t, withOthers(issuer, second))
	for _, c := range []struct {
		name, want string
		verdict    feature.Verdict
		token      string
	}{
		{"alg none", "algorithm", feature.Invalid, unsigned(p.mint(alg("none")), "")},
		{"one key with two algorithms", "PS256", feature.Invalid, p.mint(alg("PS256"))},
		{"HS256", "HS256", feature.Invalid, p.mint(alg("HS256"))},
		{"kid of another issuer", "signature is not valid", feature.Invalid, p.mint(claim("iss", second.URL))},
		{"kid of the tokens service", "no key of the name", feature.Invalid, p.mint(header("kid", "k1"), alg("ES256"), func(d *draft) { d.key = m.tokens.keys["k1"] })},
		{"kid of a company's issuer on a token of ours", "no key of the name", feature.Invalid, m.tokens.mint("alice", nil, header("kid", "e1"), func(d *draft) { d.key = p.keys["e1"] })},
		{"a key of the issuer on a token that says it is ours", "typ", feature.Invalid, p.mint(claim("iss", "spiffe://mesh.local/service/tokens"), func(d *draft) { delete(d.header, "x5t") })},
		{"kid of a key for encryption", "no key of the name", feature.Invalid, p.mint(header("kid", "enc"))},
		{"jku", "more than alg", feature.Invalid, p.mint(header("jku", trap.URL))},
		{"x5u", "more than alg", feature.Invalid, p.mint(header("x5u", trap.URL))},
		{"jwk", "more than alg", feature.Invalid, p.mint(header("jwk", map[string]string{"kty": "oct"}))},
		{"x5c", "more than alg", feature.Invalid, p.mint(header("x5c", []string{}))},
		{"crit", "more than alg", feature.Invalid, p.mint(header("crit", []string{"exp"}))},
		{"an issuer nobody knows", "typ", feature.Invalid, p.mint(claim("iss", trap.URL), func(d *draft) { delete(d.header, "x5t") })},
		{"issuer with a slash more", "more than alg", feature.Invalid, p.mint(claim("iss", company+"/"))},
		{"audience missing", "aud", feature.Invalid, p.mint(without("aud"))},
		{"audience empty", "aud", feature.Invalid, p.mint(claim("aud", ""))},
		{"audience other", "aud", feature.Invalid, p.mint(claim("aud", "other"))},
		{"audience array without ours", "aud", feature.Invalid, p.mint(claim("aud", []string{"a", "b"}))},
		{"audience array with a number", "aud", feature.Invalid, p.mint(claim("aud", []any{audience, 1}))},
		{"an ID token", "type", feature.Invalid, p.mint(header("typ", "JWT"))},
		{"exp missing", "exp", feature.Invalid, p.mint(without("exp"))},
		{"exp float", "exp", feature.Invalid, p.mint(rawClaim("exp", "1e30"))},
		{"exp beyond the cap", "at most", feature.Invalid, p.mint(at("exp", 3700))},
		{"expired", "expired", feature.Expired, p.mint(at("iat", -1000), at("exp", -6))},
		{"iat missing", "iat", feature.Invalid, p.mint(without("iat"))},
		{"nbf ahead", "not valid yet", feature.Invalid, p.mint(at("nbf", 60))},
		{"nbf string", "nbf", feature.Invalid, p.mint(claim("nbf", "now"))},
		{"sub missing", "sub", feature.Invalid, p.mint(without("sub"))},
		{"roles as a string", "groups", feature.Invalid, p.mint(claim("groups", "shop.customer"))},
		{"client_id that is a number", "client_id", feature.Invalid, p.mint(claim("client_id", 7))},
		{"auth_time that is a string", "auth_time", feature.Invalid, p.mint(claim("auth_time", "7"))},
	} {
		if _, verdict, detail := m.feature.verify(c.token); verdict != c.verdict || !strings.Contains(detail, c.want) {
			t.Errorf("%s: verdict %d (%s), want %d and %q", c.name, verdict, detail, c.verdict, c.want)
		}
	}
	if n := asked.Load(); n != 0 {
		t.Errorf("a token made the verifier ask for %d things elsewhere", n)
	}
}

// jwksServer publishes keys over https, and counts how often it is asked.
type jwksServer struct {
	*httptest.Server
	asked atomic.Int64
	ca    string // file with its root
	mu    sync.Mutex
	serve http.HandlerFunc
}

func newJWKSServer(t testing.TB, serve http.HandlerFunc) *jwksServer {
	t.Helper()
	s := &jwksServer{serve: serve, ca: filepath.Join(t.TempDir(), "ca.pem")}
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.asked.Add(1)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.serve(w, r)
	}))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(s.Close)
	must(t, os.WriteFile(s.ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600))
	return s
}

func TestKeysOfACompanysIssuerComeOverHTTPS(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	s := newJWKSServer(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(p.jwks()) })
	m := newMesh(t, withOthers(usertoken.Issuer{URL: company, Audience: audience, JWKSURL: s.URL + "/keys", CAFile: s.ca, RolesClaim: "groups", Type: "JWT"}))
	must(t, invoke(interceptors.AsUser(timeout(t), p.mint(header("typ", "JWT"))), m.dial(seller), buy))

	// A key that is gone vouches for nothing any more, not even for what was remembered.
	token := p.mint(header("typ", "JWT"), alg("ES256"), header("kid", "e1"), func(d *draft) { d.key = p.keys["e1"] })
	if _, verdict, detail := m.feature.verify(token); verdict != feature.Good {
		t.Fatalf("verdict %d, %s", verdict, detail)
	}
	s.mu.Lock()
	p.keys["e2"] = newKey(t)
	delete(p.keys, "e1")
	s.mu.Unlock()
	eventually(t, "end of the key", func() bool { _, verdict, _ := m.feature.verify(token); return verdict == feature.Invalid })
	next := p.mint(header("typ", "JWT"), alg("ES256"), header("kid", "e2"), func(d *draft) { d.key = p.keys["e2"] })
	if _, verdict, detail := m.feature.verify(next); verdict != feature.Good {
		t.Errorf("verdict %d, %s, on a token of the next key", verdict, detail)
	}
}

func TestAServerOfKeysThatIsNotAsItShouldBeIsNotFollowed(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	elsewhere := newJWKSServer(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(p.jwks()) })
	for _, c := range []struct {
		name, want string
		serve      http.HandlerFunc
		ca         string
	}{
		{"a redirect", "302", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, elsewhere.URL, http.StatusFound) }, ""},
		{"an error", "500", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) }, ""},
		{"no JSON", "JSON", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>") }, ""},
		{"no keys that sign", "no key among them", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"keys":[]}`) }, ""},
		{"a private key", "not a public one", func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, `{"keys":[{"kty":"oct","k":"AAAA"}]}`)
		}, ""},
		{"more than fits", "more than", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, 300<<10)) }, ""},
		{"a certificate of another CA", "certificate", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(p.jwks()) }, "other"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newJWKSServer(t, c.serve)
			if c.ca != "" {
				ca := newMesh(t).ca.Root()
				must(t, os.WriteFile(s.ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Raw}), 0o600))
			}
			m := newMesh(t, withOthers(usertoken.Issuer{URL: company, Audience: audience, JWKSURL: s.URL, CAFile: s.ca}))
			if _, verdict, detail := m.feature.verify(p.mint()); verdict != feature.Unavailable || !strings.Contains(detail, c.want) {
				t.Errorf("verdict %d (%s), want unavailable and %q", verdict, detail, c.want)
			}
			// Our own users are not concerned.
			if _, verdict, detail := m.feature.verify(m.tokens.mint("alice", nil)); verdict != feature.Good {
				t.Errorf("verdict %d, %s, on a token of ours", verdict, detail)
			}
		})
	}
	t.Cleanup(func() {
		if n := elsewhere.asked.Load(); n != 0 {
			t.Errorf("%d redirects were followed", n)
		}
	})
}

func TestAFileOfKeysIsReadAgainAndABadOneKeepsTheLastGood(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	issuer, file := fromFile(t, p)
	m := newMesh(t, withOthers(issuer))
	good := func(id string) bool {
		_, verdict, _ := m.feature.verify(p.mint(alg("ES256"), header("kid", id), func(d *draft) { d.key = p.keys[id] }))
		return verdict == feature.Good
	}
	if !good("e1") {
		t.Fatal("the first keys are not accepted")
	}
	must(t, os.WriteFile(file, []byte(`{"keys":`), 0o600))
	eventually(t, "warning", func() bool { return strings.Contains(m.log.String(), "could not be read") })
	if !good("e1") {
		t.Error("a bad file took the last good keys away")
	}
	p.keys["e2"] = newKey(t)
	must(t, os.WriteFile(file, p.jwks(), 0o600))
	eventually(t, "token of a new key", func() bool { return good("e2") })
}

func TestAnIssuerThatWithdrawsAllItsKeysIsHeard(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	issuer, file := fromFile(t, p)
	m := newMesh(t, withOthers(issuer))
	if _, verdict, detail := m.feature.verify(p.mint()); verdict != feature.Good {
		t.Fatalf("verdict %d, %s", verdict, detail)
	}
	must(t, os.WriteFile(file, []byte(`{"keys":[]}`), 0o600))
	eventually(t, "end of all keys", func() bool { _, verdict, _ := m.feature.verify(p.mint()); return verdict == feature.Invalid })
	must(t, os.WriteFile(file, p.jwks(), 0o600))
	eventually(t, "new keys", func() bool { _, verdict, _ := m.feature.verify(p.mint()); return verdict == feature.Good })
}

func TestACompanysIssuerAloneNeedsNoTokensService(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	issuer, _ := fromFile(t, p)
	m := newMesh(t)
	f := &watched{Feature: usertoken.New(usertoken.Config{Others: []usertoken.Issuer{issuer}})}
	m.newGuard(m.ca.Source("/service/alone"), nil, interceptors.With(f), quiet())
	if _, verdict, detail := f.verify(p.mint()); verdict != feature.Good {
		t.Errorf("verdict %d, %s", verdict, detail)
	}
	if _, verdict, _ := f.verify(m.tokens.mint("alice", nil)); verdict != feature.Invalid {
		t.Errorf("verdict %d on a token of the tokens service, which is not configured", verdict)
	}
	if login := f.running.(feature.Users).LoginMethod(); login != "" {
		t.Errorf("login method %s", login)
	}
}
