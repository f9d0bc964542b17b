package inspect_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	ledgerv1 "example.com/rolecall/gen/ledger/v1"
	rolecallv1 "example.com/rolecall/gen/rolecall/v1"
	"example.com/rolecall/internal/inspect"
	"example.com/rolecall/rolecalltest"
)

var encode = base64.RawURLEncoding.EncodeToString

type members map[string]any

func (m members) with(name string, value any) members {
	c := maps.Clone(m)
	if c[name] = value; value == nil {
		delete(c, name)
	}
	return c
}

// signer is a workload with its certificate.
type signer struct {
	ca   *rolecalltest.CA
	svid *x509svid.SVID
	kid  string
	now  time.Time
}

func newSigner(t *testing.T) *signer {
	t.Helper()
	ca := rolecalltest.NewCA(t, "mesh.local")
	svid, err := ca.Source("/operator/alice").GetX509SVID()
	if err != nil {
		t.Fatal(err)
	}
	thumbprint, err := (&jose.JSONWebKey{Key: svid.Certificates[0].PublicKey}).Thumbprint(5)
	if err != nil {
		t.Fatal(err)
	}
	return &signer{ca: ca, svid: svid, kid: encode(thumbprint), now: time.Now().Truncate(time.Second)}
}

// chains is its certificate as inspect takes it.
func (s *signer) chains() [][]*x509.Certificate { return [][]*x509.Certificate{s.svid.Certificates} }

func (s *signer) header(typ string) members { return members{"alg": "ES256", "typ": typ, "kid": s.kid} }

func (s *signer) proof(body []byte) members {
	sum := sha256.Sum256(body)
	return members{
		"iss": "spiffe://mesh.local/operator/alice", "aud": "spiffe://mesh.local/service/ledger", "mth": "/ledger.v1.LedgerService/Transfer",
		"bth": encode(sum[:]), "jti": encode(make([]byte, 16)), "iat": s.now.Unix(), "exp": s.now.Add(30 * time.Second).Unix(),
	}
}

func (s *signer) receipt(body []byte) members {
	sum := sha256.Sum256(body)
	return members{
		"iss": "spiffe://mesh.local/operator/alice", "aud": "spiffe://mesh.local/operator/bob", "mth": "/ledger.v1.LedgerService/Transfer",
		"bth": encode(sum[:]), "prf": encode(make([]byte, 16)), "iat": s.now.Unix(),
	}
}

func (s *signer) sign(t *testing.T, header, claims members) []byte {
	t.Helper()
	h, err := json.Marshal(header)
	if err != nil {
		t.Fatal(err)
	}
	c, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	text := encode(h) + "." + encode(c)
	sum := sha256.Sum256([]byte(text))
	r, n, err := ecdsa.Sign(rand.Reader, s.svid.PrivateKey.(*ecdsa.PrivateKey), sum[:])
	if err != nil {
		t.Fatal(err)
	}
	var raw [64]byte
	r.FillBytes(raw[:32])
	n.FillBytes(raw[32:])
	return []byte(text + "." + encode(raw[:]) + "\n")
}

// roots are those of the CA in PEM.
func (s *signer) roots() []byte {
	var out bytes.Buffer
	for _, root := range s.ca.Bundle().X509Authorities() {
		_ = pem.Encode(&out, &pem.Block{Type: "CERTIFICATE", Bytes: root.Raw})
	}
	return out.Bytes()
}

// explain inspects and returns the text, and whether nothing is wrong. What was signed must not come back whole.
func explain(t *testing.T, data []byte, o inspect.Options) (string, bool) {
	t.Helper()
	i, err := inspect.Data(data, o)
	if err != nil {
		t.Fatalf("inspect: %v", err)
	}
	var text bytes.Buffer
	if err := i.WriteText(&text); err != nil {
		t.Fatal(err)
	}
	if parts := strings.Split(strings.TrimSpace(string(data)), "."); len(parts) == 3 && len(parts[2]) > 20 && strings.Contains(text.String(), parts[2]) {
		t.Errorf("the signature is shown:\n%s", &text)
	}
	return text.String(), i.OK()
}

func check(t *testing.T, text string, ok, wantOK bool, says ...string) {
	t.Helper()
	if ok != wantOK {
		t.Errorf("OK: got %v, want %v", ok, wantOK)
	}
	for _, want := range says {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing", want)
		}
	}
	if t.Failed() {
		t.Logf("got:\n%s", text)
	}
}

func TestAProofIsExplained(t *testing.T) {
	t.Parallel()
	s := newSigner(t)
	body := []byte("the request")
	good, header := s.proof(body), s.header("rolecall-proof+jwt")
	sum := encode(make([]byte, 32))
	for name, tc := range map[string]struct {
		header, claims members
		opts           inspect.Options
		ok             bool
		says           []string
	}{
		"a good one, with nothing at hand": {header, good, inspect.Options{}, true, []string{"proof (a signed request)", "spiffe://mesh.local/operator/alice",
			"spiffe://mesh.local/service/ledger", "/ledger.v1.LedgerService/Transfer, and no other", "(in 30s)", "all that the signer holds", "no access token may come along",
			"NOT VERIFIED   the signature", "NOT VERIFIED   which request", "NOT VERIFIED   whether it was used before", "nothing is wrong with what was checked"}},
		"with the request":         {header, good, inspect.Options{Body: body}, true, []string{"these are the bytes at hand, 11 of them"}},
		"with another request":     {header, good, inspect.Options{Body: []byte("x")}, false, []string{"about another request"}},
		"with the certificate":     {header, good, inspect.Options{Chains: s.chains()}, true, []string{"holds, by the key of", "NOT VERIFIED   that the certificate is the signer's"}},
		"with the roots":           {header, good, inspect.Options{Chains: s.chains(), Bundle: s.roots()}, true, []string{"holds, by spiffe://mesh.local/operator/alice"}},
		"with other roots":         {header, good, inspect.Options{Chains: s.chains(), Bundle: newSigner(t).roots()}, false, []string{"not good"}},
		"in another's name":        {header, good.with("iss", "spiffe://mesh.local/operator/bob"), inspect.Options{Chains: s.chains(), Bundle: s.roots()}, false, []string{"and says that it was by spiffe://mesh.local/operator/bob"}},
		"with another key":         {header, good, inspect.Options{Chains: newSigner(t).chains()}, false, []string{"not signed with the key of the certificate"}},
		"narrowed, with a token":   {header, good.with("roles", []string{"ledger.reader orders.reader"}).with("ath", sum), inspect.Options{}, true, []string{"ledger.reader, orders.reader: the signer gave up", "SHA-256 " + sum, "whose token that is"}},
		"without a role":           {header, good.with("roles", []string{""}), inspect.Options{}, true, []string{"none: the signer gave up all"}},
		"narrowed twice":           {header, good.with("roles", []string{"a.b c.d", "a.b"}), inspect.Options{}, true, []string{"all of these lists name: a.b c.d; a.b"}},
		"narrowed to nothing said": {header, good.with("roles", []string{}), inspect.Options{}, false, []string{"roles is not a list"}},
		"for anybody to pass on":   {header, good, inspect.Options{}, true, []string{"passed on by   whoever holds the role"}},
		"for one to pass on":       {header, good.with("via", "spiffe://mesh.local/service/orders"), inspect.Options{}, true, []string{"passed on by   spiffe://mesh.local/service/orders", "and nobody else"}},
		"for no one to pass on":    {header, good.with("via", ""), inspect.Options{}, false, []string{"via is not the SPIFFE ID"}},
		"for one of another kind":  {header, good.with("via", 1), inspect.Options{}, false, []string{"via is not the SPIFFE ID"}},
		"with an unknown claim":    {header, good.with("new", 1), inspect.Options{}, false, []string{`the claim "new"`}},
		"with metadata":            {header, good.with("mdk", []string{"tenant"}).with("mdh", sum), inspect.Options{}, true, []string{"covers tenant"}},
		"with half of metadata":    {header, good.with("mdk", []string{"tenant"}), inspect.Options{}, false, []string{"mdk and mdh go together"}},
		"an expired one":           {header, good.with("exp", s.now.Unix()), inspect.Options{}, false, []string{"it expired at"}},
		"one that lives too long":  {header, good.with("exp", s.now.Unix()+61), inspect.Options{}, false, []string{"1m1s", "at most 1m0s"}},
		"one of the future":        {header, good.with("iat", s.now.Unix()+6).with("exp", s.now.Unix()+20), inspect.Options{}, false, []string{"in the future"}},
		"one without an end":       {header, good.with("exp", nil), inspect.Options{}, false, []string{"no end"}},
		"one with a short nonce":   {header, good.with("jti", "AAAA"), inspect.Options{}, false, []string{"jti is not 128 bits"}},
		"one for nobody":           {header, good.with("aud", nil), inspect.Options{}, false, []string{"aud is not the SPIFFE ID"}},
		"one with another typ":     {s.header("JWT"), good, inspect.Options{}, false, []string{"proof", `its typ is "JWT"`}},
		"one with alg none":        {header.with("alg", "none"), good, inspect.Options{Chains: s.chains()}, false, []string{`its alg is "none"`, "the signature does not hold"}},
		"one with alg HS256":       {header.with("alg", "HS256"), good, inspect.Options{}, false, []string{`its alg is "HS256"`}},
		"one that brings a key":    {header.with("jwk", members{"kty": "EC"}), good, inspect.Options{}, false, []string{"brings a key along (jwk)"}},
		"one with a chain":         {header.with("x5c", []string{"MII"}), good, inspect.Options{}, false, []string{"brings a key along (x5c)"}},
		"one with an odd header":   {header.with("crit", []string{"b64"}), good, inspect.Options{}, false, []string{`"crit" beside alg`}},
		"one whose hash is broken": {header, good.with("bth", "AAAA"), inspect.Options{}, false, []string{"bth is not a SHA-256"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tc.opts.Now = s.now
			text, ok := explain(t, s.sign(t, tc.header, tc.claims), tc.opts)
			check(t, text, ok, tc.ok, tc.says...)
		})
	}
}

func TestAChangedProofIsFoundOut(t *testing.T) {
	t.Parallel()
	s := newSigner(t)
	signed := strings.Split(string(s.sign(t, s.header("rolecall-proof+jwt"), s.proof(nil))), ".")
	other := strings.Split(string(s.sign(t, s.header("rolecall-proof+jwt"), s.proof(nil).with("mth", "/a.B/C"))), ".")
	text, ok := explain(t, []byte(signed[0]+"."+other[1]+"."+signed[2]), inspect.Options{Now: s.now, Chains: s.chains()})
	check(t, text, ok, false, "something was changed after it was signed")
}

func TestAClaimThatIsThereTwiceIsFoundOut(t *testing.T) {
	t.Parallel()
	text := encode([]byte(`{"alg":"ES256","kid":"k","typ":"rolecall-proof+jwt"}`)) + "." + encode([]byte(`{"exp":1,"exp":2}`)) + "." + encode(make([]byte, 64))
	got, ok := explain(t, []byte(text), inspect.Options{Now: time.Unix(0, 0)})
	check(t, got, ok, false, `the claims hold "exp" twice`)
}

func TestAReceiptIsExplained(t *testing.T) {
	t.Parallel()
	s := newSigner(t)
	body := []byte("the response")
	good, header := s.receipt(body), s.header("rolecall-receipt+jwt")
	for name, tc := range map[string]struct {
		header, claims members
		opts           inspect.Options
		ok             bool
		says           []string
	}{
		"a good one": {header, good, inspect.Options{}, true, []string{"receipt (a signed answer)", "the proof with the nonce AAAAAAAAAAAAAAAAAAAAAA", "a receipt has no end",
			"NOT VERIFIED   the signature", "NOT VERIFIED   which response", "NOT VERIFIED   that it answers your request"}},
		"with everything at hand": {header, good, inspect.Options{Body: body, Chains: s.chains(), Bundle: s.roots()}, true, []string{"these are the bytes", "holds, by spiffe://mesh.local/operator/alice"}},
		"with another response":   {header, good, inspect.Options{Body: []byte{}}, false, []string{"about another response"}},
		"one with another typ":    {s.header("rolecall-proof+jwt"), good, inspect.Options{}, false, []string{"jti"}}, // it says to be a proof, and is none
		"one without a proof":     {header, good.with("prf", nil), inspect.Options{}, false, []string{"which proof it answers"}},
		"one of the future":       {header, good.with("iat", s.now.Unix()+6), inspect.Options{}, false, []string{"in the future"}},
		"one of no time":          {header, good.with("iat", nil), inspect.Options{}, false, []string{"when it was made"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tc.opts.Now = s.now
			text, ok := explain(t, s.sign(t, tc.header, tc.claims), tc.opts)
			check(t, text, ok, tc.ok, tc.says...)
		})
	}
}

func TestARequestThatIsPassedOnIsExplained(t *testing.T) {
	t.Parallel()
	s := newSigner(t)
	request, err := proto.Marshal(&ledgerv1.TransferRequest{FromAccount: "a1", Note: "rent", Amount: &ledgerv1.Money{Currency: "EUR", MinorUnits: 5}})
	if err != nil {
		t.Fatal(err)
	}
	signed := strings.TrimSpace(string(s.sign(t, s.header("rolecall-proof+jwt"), s.proof(request))))
	const transfer = "/ledger.v1.LedgerService/Transfer"
	for name, tc := range map[string]struct {
		message proto.Message
		ok      bool
		says    []string
	}{
		"a good one": {&rolecallv1.SignedRequest{Method: transfer, Request: request, Proof: signed}, true,
			[]string{"request that a workload signed", "ledger.v1.TransferRequest", `"fromAccount":"a1"`, "these are the bytes at hand", "spiffe://mesh.local/service/ledger"}},
		"one with another request": {&rolecallv1.SignedRequest{Method: transfer, Proof: signed}, false, []string{"about another request"}},
		"one for another method": {&rolecallv1.SignedRequest{Method: "/ledger.v1.LedgerService/GetBalance", Request: request, Proof: signed}, false,
			[]string{"the proof is for the method " + transfer}},
		"one of a method that is not known": {&rolecallv1.SignedRequest{Method: "/a.B/C", Request: request, Proof: signed}, false, []string{"bytes; what they say is not known here"}},
		"one with a proof that is none":     {&rolecallv1.SignedRequest{Method: transfer, Request: request, Proof: "x"}, false, []string{"for a proof is none"}},
		"an answer": {&rolecallv1.SignedResponse{Response: []byte{}, Receipt: strings.TrimSpace(string(s.sign(t, s.header("rolecall-receipt+jwt"), s.receipt([]byte{}))))}, true,
			[]string{"answer with its receipt", "ledger.v1.TransferResponse {}", "these are the bytes at hand, 0 of them"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			data, err := protojson.Marshal(tc.message)
			if err != nil {
				t.Fatal(err)
			}
			text, ok := explain(t, data, inspect.Options{Now: s.now})
			check(t, text, ok, tc.ok, tc.says...)
			if strings.Contains(text, signed) {
				t.Error("the whole proof is shown")
			}
		})
	}
}

func TestAnAccessTokenIsExplained(t *testing.T) {
	t.Parallel()
	s := newSigner(t)
	now := s.now.Unix()
	header := members{"alg": "ES256", "typ": "at+jwt", "kid": "k1"}
	good := members{
		"iss": "spiffe://mesh.local/service/tokens", "aud": "spiffe://mesh.local", "sub": "dave", "client_id": "spiffe://mesh.local/operator/bob", "sid": "s1", "jti": "j",
		"roles": []string{"orders.customer", "orders.reader"}, "gen": 3, "iat": now - 60, "nbf": now - 60, "exp": now + 540, "auth_time": now - 60, "ext": members{"tier": "gold"},
	}
	other := good.with("iss", "https://login.example.com").with("aud", []string{"x", "mesh"})
	for name, tc := range map[string]struct {
		header, claims members
		ok             bool
		says           []string
	}{
		"a good one": {header, good, true, []string{"access token", "dave", "orders.customer, orders.reader", "spiffe://mesh.local/service/tokens", "spiffe://mesh.local/operator/bob",
			"(in 9m0s)", "generation     3", "NOT VERIFIED   the signature", "NOT VERIFIED   whether it was revoked", "there are some"}},
		"one with the long form of its type": {header.with("typ", "application/at+jwt"), good, false, []string{"access token", "its typ is"}},
		"one for some roles":                 {header, good.with("held_roles", []string{"orders.reader"}).with("role_subset", []string{}), true, []string{"holds          orders.reader", "roles          none"}},
		"an expired one":                     {header, good.with("exp", now), false, []string{"it expired at"}},
		"one that lives too long":            {header, good.with("exp", now+541), false, []string{"it lives for 10m1s"}},
		"one that does not hold yet":         {header, good.with("nbf", now+60), false, []string{"does not hold before"}},
		"one without an end, for nobody":     {header, members{"iss": "spiffe://mesh.local/service/tokens"}, false, []string{"no end", "it names no user", "it names no audience"}},
		"one with a generation that is none": {header, good.with("gen", "x"), false, []string{"gen is no number"}},
		"one of another issuer":              {header.with("alg", "RS256").with("x5t", "a"), other, true, []string{"https://login.example.com", "x, mesh"}},
		"one of another issuer with a key":   {header.with("jku", "https://eve.example.com"), other, false, []string{"holds jku"}},
		"one of another issuer with HS256":   {header.with("alg", "HS256"), other, false, []string{`its alg is "HS256"`}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text, ok := explain(t, s.sign(t, tc.header, tc.claims), inspect.Options{Now: s.now})
			check(t, text, ok, tc.ok, tc.says...)
			if strings.Contains(text, "gold") {
				t.Error("the attributes of the user are shown")
			}
		})
	}
}

func TestTheRestIsForPKI(t *testing.T) {
	t.Parallel()
	s := newSigner(t)
	leaf := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.svid.Certificates[0].Raw})
	if _, err := x509.ParseCertificate(s.svid.Certificates[0].Raw); err != nil {
		t.Fatal(err)
	}
	for want, data := range map[string][]byte{
		"leaf certificate": leaf,
		"JWT-SVID":         s.sign(t, s.header("JWT"), members{"sub": "spiffe://mesh.local/a", "aud": []string{"b"}, "exp": s.now.Unix() + 60}),
	} {
		if text, _ := explain(t, data, inspect.Options{Now: s.now}); !strings.HasPrefix(text, want) {
			t.Errorf("got:\n%s\nwant %s", text, want)
		}
	}
	for name, data := range map[string]string{"nothing": "", "words": "a.b.c", "an empty object": "{}", "JSON": `{"a": 1}`} {
		if i, err := inspect.Data([]byte(data), inspect.Options{Now: s.now}); err == nil {
			t.Errorf("%s: got %v, want an error", name, i)
		}
	}
}
