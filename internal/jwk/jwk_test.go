package jwk_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"example.com/rolecall/internal/jwk"
)

func TestAKeyIsKnownByItsThumbprint(t *testing.T) {
	t.Parallel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	described, err := jwk.ES256(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(described)
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]string
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	// RFC 7638 section 3.2: the members that a key of this type needs, in the order of the alphabet, without spaces.
	sum := sha256.Sum256(fmt.Appendf(nil, `{"crv":"P-256","kty":"EC","x":%q,"y":%q}`, got["x"], got["y"]))
	if want := base64.RawURLEncoding.EncodeToString(sum[:]); got["kid"] != want || got["alg"] != "ES256" || got["use"] != "sig" {
		t.Errorf("got %s, want kid %s, alg ES256 and use sig", text, want)
	}
}

func TestOtherKeysAreRefusedWithTheReason(t *testing.T) {
	t.Parallel()
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ed, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for want, key := range map[string]crypto.PublicKey{"P-384": p384.Public(), "ed25519.PublicKey": ed} {
		if _, err := jwk.ES256(key); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "P-256 is needed") {
			t.Errorf("%s: got %v", want, err)
		}
	}
}
