package jws_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
	"strings"
	"testing"

	"example.com/rolecall/interceptors/internal/jws"
)

func jwk(t testing.TB, id string, key *ecdsa.PrivateKey) string {
	t.Helper()
	k, err := jws.NewJWK(id, &key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(k)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func set(keys ...string) []byte { return []byte(`{"keys":[` + strings.Join(keys, ",") + `]}`) }

// rsaJWK describes a modulus and an exponent.
func rsaJWK(n, e *big.Int, more string) string {
	return fmt.Sprintf(`{"kty":"RSA","kid":"r","n":%q,"e":%q%s}`,
		base64.RawURLEncoding.EncodeToString(n.Bytes()), base64.RawURLEncoding.EncodeToString(e.Bytes()), more)
}

func TestAKeySetIsReadBack(t *testing.T) {
	t.Parallel()
	a, b := newKey(t, elliptic.P256()), newKey(t, elliptic.P256())
	keys, err := jws.ParseKeySet(set(jwk(t, "a", a), jwk(t, "b", b)))
	if err != nil {
		t.Fatal(err)
	}
	if len(keys) != 2 || !a.PublicKey.Equal(keys["a"].Public) || !b.PublicKey.Equal(keys["b"].Public) || keys["a"].Algorithm != "ES256" {
		t.Errorf("got %v", keys)
	}
}

func TestKeysThatAreNotForSignaturesArePassedOver(t *testing.T) {
	t.Parallel()
	p256, p384 := newKey(t, elliptic.P256()), newKey(t, elliptic.P384())
	point, err := p384.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	x384, y384 := base64.RawURLEncoding.EncodeToString(point[1:49]), base64.RawURLEncoding.EncodeToString(point[49:])
	good := jwk(t, "k", p256)
	change := func(old, new string) string {
		changed := strings.Replace(good, old, new, 1)
		if changed == good {
			t.Fatalf("no %s in %s", old, good)
		}
		return changed
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	three := big.NewInt(65537)
	for _, c := range []struct {
		name, key string
		want      string // the algorithm of the only key; empty: there is none
	}{
		{"P-256", good, "ES256"},
		{"P-256 without alg", change(`,"alg":"ES256"`, ""), "ES256"},
		{"P-256 without use", change(`,"use":"sig"`, ""), "ES256"},
		{"P-256 for encryption", change(`"use":"sig"`, `"use":"enc"`), ""},
		{"P-256 with a use that is no string", change(`"use":"sig"`, `"use":["sig"]`), ""},
		{"P-256 to derive keys with", change(`"use":"sig"`, `"key_ops":["deriveKey"]`), ""},
		{"P-256 to verify with", change(`"use":"sig"`, `"key_ops":["verify"]`), "ES256"},
		{"P-256 for ES384", change("ES256", "ES384"), ""},
		{"P-256 for RS256", change("ES256", "RS256"), ""},
		{"P-256 for HS256", change("ES256", "HS256"), ""},
		{"P-256 for none", change("ES256", "none"), ""},
		{"without kid", change(`"kid":"k",`, ""), ""},
		{"of another curve", change("P-256", "secp256k1"), ""},
		{"a point that is not on the curve", change(between(good, `"y":"`, `"`), base64.RawURLEncoding.EncodeToString(make([]byte, 32))), ""},
		{"coordinates that are too short", change(between(good, `"x":"`, `"`), "AAAA"), ""},
		{"P-384", fmt.Sprintf(`{"kty":"EC","crv":"P-384","kid":"k","x":%q,"y":%q}`, x384, y384), "ES384"},
		{"RSA", rsaJWK(rsaKey.N, three, ""), "RS256"},
		{"RSA for PS256", rsaJWK(rsaKey.N, three, `,"alg":"PS256"`), "PS256"},
		{"RSA for RS512", rsaJWK(rsaKey.N, three, `,"alg":"RS512"`), ""},
		{"RSA for ES256", rsaJWK(rsaKey.N, three, `,"alg":"ES256"`), ""},
		{"RSA of 1024 bits", rsaJWK(new(big.Int).Rsh(rsaKey.N, 1024), three, ""), ""},
		{"RSA of 16384 bits", rsaJWK(new(big.Int).Lsh(rsaKey.N, 14336), three, ""), ""},
		{"RSA with the exponent 1", rsaJWK(rsaKey.N, big.NewInt(1), ""), ""},
		{"RSA with an even exponent", rsaJWK(rsaKey.N, big.NewInt(4), ""), ""},
		{"RSA with an exponent of 8 octets", rsaJWK(rsaKey.N, big.NewInt(1<<62+1), ""), ""},
		{"a kind that nobody knows", `{"kty":"AKP","kid":"k"}`, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			keys, err := jws.ParseKeySet(set(c.key))
			if err != nil {
				t.Fatalf("%s: %v", c.key, err)
			}
			got := ""
			for _, key := range keys {
				got = key.Algorithm
			}
			if got != c.want {
				t.Errorf("%s: read for %q, want %q", c.key, got, c.want)
			}
		})
	}
}

func between(text, before, after string) string {
	_, rest, _ := strings.Cut(text, before)
	found, _, _ := strings.Cut(rest, after)
	return found
}

func TestAKeySetThatNobodyShouldTrustIsRefused(t *testing.T) {
	t.Parallel()
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	good := jwk(t, "k", newKey(t, elliptic.P256()))
	many := make([]string, 65)
	for i := range many {
		many[i] = `{"kty":"AKP"}`
	}
	for _, c := range []struct {
		name string
		set  []byte
		want string
	}{
		{"a private key", set(strings.Replace(good, "{", `{"d":"AAAA",`, 1)), "not a public one"},
		{"a symmetric key", set(`{"kty":"oct","kid":"k","k":"c2VjcmV0"}`), "not a public one"},
		{"two keys of one identifier", set(good, jwk(t, "k", newKey(t, elliptic.P256()))), "identifier"},
		{"one key with two algorithms", set(rsaJWK(rsaKey.N, big.NewInt(65537), ""),
			strings.Replace(rsaJWK(rsaKey.N, big.NewInt(65537), `,"alg":"PS256"`), `"r"`, `"s"`, 1)), "one key"},
		{"65 keys", set(many...), "at most"},
		{"a member twice", set(strings.Replace(good, "{", `{"kty":"RSA",`, 1)), "twice"},
		{"no keys", []byte(`{}`), "keys"},
		{"keys that are an object", []byte(`{"keys":{}}`), "keys"},
		{"keys that are null", []byte(`{"keys":null}`), "keys"},
		{"a key that is no object", set(`"k"`), "key 1"},
		{"no JSON", []byte(`keys`), "JSON"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if keys, err := jws.ParseKeySet(c.set); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v and %v, want an error with %q", keys, err, c.want)
			}
		})
	}
}

// RFC 7638 has an example for RSA only; this is RFC 7517 A.1's key on P-256, whose thumbprint other libraries give too.
func TestTheThumbprintIsThatOfRFC7638(t *testing.T) {
	t.Parallel()
	keys, err := jws.ParseKeySet(set(`{"kty":"EC","crv":"P-256","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
		"y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM","kid":"1"}`))
	if err != nil {
		t.Fatal(err)
	}
	got, err := jws.Thumbprint(keys["1"].Public.(*ecdsa.PublicKey))
	if want := "cn-I_WNMClehiVp51i_0VpOENW1upEerA8sEam5hn-s"; err != nil || got != want {
		t.Errorf("got %s, %v, want %s", got, err, want)
	}
	if _, err := jws.Thumbprint(&newKey(t, elliptic.P384()).PublicKey); err == nil {
		t.Error("a key on P-384 has a thumbprint here")
	}
}
