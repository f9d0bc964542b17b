package jws_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"example.com/rolecall/interceptors/internal/jws"
)

const maxLength = 8 << 10

func b64(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }

func newKey(t testing.TB, curve elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// raw signs header and payload, whatever they say, as ES256 or ES384 would.
func raw(t testing.TB, key *ecdsa.PrivateKey, header, payload string) string {
	t.Helper()
	signed := b64(header) + "." + b64(payload)
	sum, size := sha256.Sum256([]byte(signed)), 32
	digest := sum[:]
	if key.Curve == elliptic.P384() {
		long := sha512.Sum384([]byte(signed))
		digest, size = long[:], 48
	}
	r, s, err := ecdsa.Sign(rand.Reader, key, digest)
	if err != nil {
		t.Fatal(err)
	}
	signature := make([]byte, 2*size)
	r.FillBytes(signature[:size])
	s.FillBytes(signature[size:])
	return signed + "." + base64.RawURLEncoding.EncodeToString(signature)
}

func verified(t testing.TB, id, algorithm string, public crypto.PublicKey) jws.Key {
	t.Helper()
	key, err := jws.NewKey(id, algorithm, public)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestWhatIsSignedIsReadBack(t *testing.T) {
	t.Parallel()
	private := newKey(t, elliptic.P256())
	signer, err := jws.NewSigner("k1", private)
	if err != nil {
		t.Fatal(err)
	}
	text, err := signer.Sign("at+jwt", map[string]any{"iss": "a", "n": 7, "list": []string{"x", "y"}})
	if err != nil {
		t.Fatal(err)
	}
	token, err := jws.Parse(text, maxLength)
	if err != nil {
		t.Fatal(err)
	}
	if issuer, err := token.Issuer(); err != nil || issuer != "a" {
		t.Errorf("issuer %q, %v", issuer, err)
	}
	if claims, err := token.Unverified(); err != nil || len(claims) != 3 {
		t.Errorf("unverified claims %v, %v", claims, err)
	}
	claims, err := token.Verify(verified(t, "k1", "ES256", private.Public()), "at+jwt")
	if err != nil {
		t.Fatal(err)
	}
	list, err := claims.Strings("list")
	if n, wrong := claims.Int("n"); n != 7 || wrong != nil || err != nil || !cmp.Equal(list, []string{"x", "y"}) {
		t.Errorf("got %v %v, %v %v", n, wrong, list, err)
	}
	if signer.KeyID() != "k1" || token.KeyID != "k1" || token.Algorithm != "ES256" || token.Type != "at+jwt" {
		t.Errorf("header %+v of signer %s", token, signer.KeyID())
	}
}

func TestEachAlgorithmIsVerifiedWithItsOwnKeysOnly(t *testing.T) {
	t.Parallel()
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	rsaToken := func(algorithm string) string {
		signed := b64(`{"alg":"`+algorithm+`","typ":"t","kid":"k"}`) + "." + b64(`{"iss":"a"}`)
		sum := sha256.Sum256([]byte(signed))
		var signature []byte
		if algorithm == "PS256" {
			signature, err = rsa.SignPSS(rand.Reader, rsaKey, crypto.SHA256, sum[:], &rsa.PSSOptions{SaltLength: 32})
		} else {
			signature, err = rsa.SignPKCS1v15(rand.Reader, rsaKey, crypto.SHA256, sum[:])
		}
		if err != nil {
			t.Fatal(err)
		}
		return signed + "." + base64.RawURLEncoding.EncodeToString(signature)
	}
	p256, p384 := newKey(t, elliptic.P256()), newKey(t, elliptic.P384())
	tokens := map[string]string{
		"ES256": raw(t, p256, `{"alg":"ES256","typ":"t","kid":"k"}`, `{"iss":"a"}`),
		"ES384": raw(t, p384, `{"alg":"ES384","typ":"t","kid":"k"}`, `{"iss":"a"}`),
		"RS256": rsaToken("RS256"),
		"PS256": rsaToken("PS256"),
	}
	keys := map[string]jws.Key{
		"ES256": verified(t, "k", "ES256", p256.Public()),
		"ES384": verified(t, "k", "ES384", p384.Public()),
		"RS256": verified(t, "k", "RS256", rsaKey.Public()),
		"PS256": verified(t, "k", "PS256", rsaKey.Public()),
	}
	for algorithm, text := range tokens {
		for pinned, key := range keys {
			token, err := jws.Parse(text, maxLength)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := token.Verify(key, "t"); (err == nil) != (algorithm == pinned) {
				t.Errorf("token of %s with a key for %s: %v", algorithm, pinned, err)
			}
		}
	}
}

// TestAttacksOnTheFormOfATokenAreRefused has tokens whose signature is good, where there is one.
func TestAttacksOnTheFormOfATokenAreRefused(t *testing.T) {
	t.Parallel()
	private := newKey(t, elliptic.P256())
	key := verified(t, "k", "ES256", private.Public())
	const header, claims = `{"alg":"ES256","typ":"at+jwt","kid":"k"}`, `{"iss":"a","exp":1}`
	good := raw(t, private, header, claims)
	parts := strings.Split(good, ".")
	with := func(header, claims string) string { return raw(t, private, header, claims) }
	for _, c := range []struct{ name, token, want string }{
		{"alg none", b64(`{"alg":"none","typ":"at+jwt","kid":"k"}`) + "." + parts[1] + ".", "algorithm"},
		{"alg noNE", b64(`{"alg":"noNE","typ":"at+jwt","kid":"k"}`) + "." + parts[1] + ".", "algorithm"},
		{"alg absent", with(`{"typ":"at+jwt","kid":"k"}`, claims), "alg"},
		{"alg null", with(`{"alg":null,"typ":"at+jwt","kid":"k"}`, claims), "alg"},
		{"alg of another case", with(`{"alg":"es256","typ":"at+jwt","kid":"k"}`, claims), "algorithm"},
		{"alg under another case of its name", with(`{"ALG":"ES256","typ":"at+jwt","kid":"k"}`, claims), "alg"},
		{"alg twice", with(`{"alg":"none","alg":"ES256","typ":"at+jwt","kid":"k"}`, claims), "twice"},
		{"alg twice, once escaped", with(`{"\u0061lg":"none","alg":"ES256","typ":"at+jwt","kid":"k"}`, claims), "twice"},
		{"no signature", parts[0] + "." + parts[1] + ".", "signature"},
		{"another payload under the signature", parts[0] + "." + b64(`{"iss":"b"}`) + "." + parts[2], "signature"},
		{"a signature of zeros", parts[0] + "." + parts[1] + "." + base64.RawURLEncoding.EncodeToString(make([]byte, 64)), "signature"},
		{"a signature in DER", parts[0] + "." + parts[1] + "." + der(t, private, parts[0]+"."+parts[1]), "signature"},
		{"typ of another kind of token", with(`{"alg":"ES256","typ":"JWT","kid":"k"}`, claims), "type"},
		{"typ absent", with(`{"alg":"ES256","kid":"k"}`, claims), "typ"},
		{"kid of another key", with(`{"alg":"ES256","typ":"at+jwt","kid":"other"}`, claims), "another key"},
		{"kid with path", with(`{"alg":"ES256","typ":"at+jwt","kid":"../../dev/null"}`, claims), "another key"},
		{"kid with SQL", with(`{"alg":"ES256","typ":"at+jwt","kid":"k' OR '1'='1"}`, claims), "another key"},
		{"kid of 10 KB", with(`{"alg":"ES256","typ":"at+jwt","kid":"`+strings.Repeat("k", 10<<10)+`"}`, claims), "longer than"},
		{"kid of 129 bytes", with(`{"alg":"ES256","typ":"at+jwt","kid":"`+strings.Repeat("k", 129)+`"}`, claims), "longer than"},
		{"kid that is no string", with(`{"alg":"ES256","typ":"at+jwt","kid":["k"]}`, claims), "kid"},
		{"jku", with(`{"alg":"ES256","typ":"at+jwt","kid":"k","jku":"https://evil.example/keys"}`, claims), "more than alg"},
		{"x5u", with(`{"alg":"ES256","typ":"at+jwt","kid":"k","x5u":"https://evil.example/cert"}`, claims), "more than alg"},
		{"jwk", with(`{"alg":"ES256","typ":"at+jwt","kid":"k","jwk":{"kty":"EC"}}`, claims), "more than alg"},
		{"x5c", with(`{"alg":"ES256","typ":"at+jwt","kid":"k","x5c":["MIIB"]}`, claims), "more than alg"},
		{"crit", with(`{"alg":"ES256","typ":"at+jwt","kid":"k","crit":["b64"],"b64":false}`, claims), "more than alg"},
		{"JSON serialization", `{"protected":"` + parts[0] + `","payload":"` + parts[1] + `","signature":"` + parts[2] + `"}`, "three parts"},
		{"five-part JWE", "a.b.c.d.e", "three parts"},
		{"a million dots", strings.Repeat(".", 1_000_000), "longer than"},
		{"as many dots as fit", strings.Repeat(".", maxLength), "three parts"},
		{"empty", "", "three parts"},
		{"three empty parts", "..", "header"},
		{"a line end in a part", parts[0] + "." + parts[1] + "." + parts[2][:4] + "\n" + parts[2][4:], "base64url"},
		{"padding", parts[0] + "." + parts[1] + "." + parts[2] + "==", "base64url"},
		{"standard alphabet", parts[0] + "." + parts[1] + "." + strings.Repeat("+/", 43), "base64url"},
		{"bits behind the last octet", parts[0] + "." + parts[1] + "." + parts[2][:len(parts[2])-1] + "B", "base64url"},
		{"duplicate claims", with(header, `{"exp":1,"exp":99999999999}`), "twice"},
		{"duplicate claims, nested", with(header, `{"ext":{"a":1,"a":2}}`), "twice"},
		{"duplicate claims in an array", with(header, `{"ext":[{"a":1,"a":2}]}`), "twice"},
		{"claims that are an array", with(header, `[1]`), "not a JSON object"},
		{"claims that are null", with(header, `null`), "not a JSON object"},
		{"two objects of claims", with(header, `{"a":1}{"a":2}`), "JSON"},
		{"claims nested without end", with(header, `{"a":`+strings.Repeat("[", 2000)+strings.Repeat("]", 2000)+`}`), "nested"},
		{"claims that never end", with(header, `{"a":`+strings.Repeat("[", 2000)), "JSON"},
		{"claims in objects without end", with(header, strings.Repeat(`{"a":`, 900)+"1"+strings.Repeat("}", 900)), "nested"},
		{"claims that are not UTF-8", with(header, "{\"a\":\"\xff\"}"), "UTF-8"},
		{"claims with a comment", with(header, `{"a":1/**/}`), "JSON"},
		{"a comma too many", with(header, `{"a":1,}`), "JSON"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			token, err := jws.Parse(c.token, maxLength)
			if err == nil {
				_, err = token.Verify(key, "at+jwt")
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v, want an error with %q", err, c.want)
			}
			if len(err.Error()) > 300 {
				t.Errorf("the error grows with the token: %d bytes", len(err.Error()))
			}
		})
	}
	if token, err := jws.Parse(good, maxLength); err != nil {
		t.Error(err)
	} else if _, err := token.Verify(key, "at+jwt"); err != nil {
		t.Errorf("the token that the others were made of: %v", err)
	}
}

func der(t *testing.T, key *ecdsa.PrivateKey, signed string) string {
	t.Helper()
	sum := sha256.Sum256([]byte(signed))
	signature, err := ecdsa.SignASN1(rand.Reader, key, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	return base64.RawURLEncoding.EncodeToString(signature)
}

func TestHeadersOfOthersMayHoldMoreButPointAtNoKey(t *testing.T) {
	t.Parallel()
	private := newKey(t, elliptic.P256())
	for member, want := range map[string]bool{
		`"x5t":"abc"`: true, `"cty":"JWT"`: true, `"nonce":"n"`: true,
		`"jku":"https://evil.example"`: false, `"x5u":"https://evil.example"`: false, `"jwk":{}`: false, `"x5c":[]`: false, `"crit":[]`: false, `"crit":null`: false,
	} {
		_, err := jws.ParseOther(raw(t, private, `{"alg":"ES256","typ":"JWT","kid":"k",`+member+`}`, `{}`), maxLength)
		if (err == nil) != want {
			t.Errorf("%s: %v, want accepted: %v", member, err, want)
		}
	}
}

func TestNumbersAreWholeAndExact(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int64{
		"0": 0, "1": 1, "1700000000": 1700000000, "9007199254740991": 1<<53 - 1, " 5 ": 5,
		"9007199254740992": -1, "1e30": -1, "1e3": -1, "1.0": -1, "1.5": -1, `"1"`: -1, "null": -1, "-1": -1, "-0": -1,
		"99999999999999999999": -1, "[1]": -1, "true": -1, "{}": -1,
	} {
		claims, err := jws.ParseObject([]byte(`{"n":` + text + `}`))
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		got, err := claims.Int("n")
		if err != nil {
			got = -1
		}
		if got != want {
			t.Errorf("%s: got %d (%v), want %d", text, got, err, want)
		}
	}
	if _, err := (jws.Object{}).Int("n"); err == nil {
		t.Error("a number that is not there was read")
	}
}

func TestStringsAndListsAreWhatTheySay(t *testing.T) {
	t.Parallel()
	for _, text := range []string{`""`, `null`, `1`, `["a"]`, `{"a":"b"}`, `true`} {
		claims := jws.Object{"s": json.RawMessage(text)}
		if got, err := claims.String("s"); err == nil {
			t.Errorf("%s was read as the string %q", text, got)
		}
	}
	for _, text := range []string{`"a"`, `null`, `["a",null]`, `["a",1]`, `[["a"]]`, `{"0":"a"}`} {
		claims := jws.Object{"s": json.RawMessage(text)}
		if got, err := claims.Strings("s"); err == nil {
			t.Errorf("%s was read as the list %q", text, got)
		}
	}
	empty := jws.Object{"s": json.RawMessage(`[]`)}
	if got, err := empty.Strings("s"); err != nil || len(got) != 0 || got == nil {
		t.Errorf("an empty list: %v, %v", got, err)
	}
}

// nonsense is a key in some device whose answers are no signatures.
type nonsense struct{ key *ecdsa.PrivateKey }

func (n nonsense) Public() crypto.PublicKey { return n.key.Public() }

func (nonsense) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return []byte("signed"), nil
}

func TestASignerNeedsAKeyOnP256(t *testing.T) {
	t.Parallel()
	if _, err := jws.NewSigner("k", newKey(t, elliptic.P384())); err == nil {
		t.Error("a signer with a key on P-384 was made")
	}
	if _, err := jws.NewSigner("", newKey(t, elliptic.P256())); err == nil {
		t.Error("a signer without an identifier was made")
	}
	if _, err := jws.NewSigner("k", nonsense{newKey(t, elliptic.P256())}); err != nil {
		t.Fatal(err)
	}
	signer, _ := jws.NewSigner("k", nonsense{newKey(t, elliptic.P256())})
	if text, err := signer.Sign("t", map[string]int{}); err == nil {
		t.Errorf("signed %s with a key that makes no signatures", text)
	}
	good, _ := jws.NewSigner("k", newKey(t, elliptic.P256()))
	if text, err := good.Sign("t", make(chan int)); err == nil {
		t.Errorf("signed %s, which is no JSON", text)
	}
}
