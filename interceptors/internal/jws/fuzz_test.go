package jws_test

import (
	"crypto/elliptic"
	"encoding/json"
	"strings"
	"testing"

	"example.com/rolecall/interceptors/internal/jws"
)

// FuzzParse looks for texts that are read as tokens and are something else to others.
func FuzzParse(f *testing.F) {
	private := newKey(f, elliptic.P256())
	f.Add(raw(f, private, `{"alg":"ES256","typ":"at+jwt","kid":"k"}`, `{"iss":"a","exp":1}`))
	f.Add(b64(`{"alg":"none","typ":"at+jwt","kid":"k"}`) + "." + b64(`{}`) + ".")
	f.Add("..")
	f.Add(b64(`{"alg":"ES256","typ":"at+jwt","kid":"k","crit":[]}`) + "." + b64(`[]`) + ".AAAA")
	f.Fuzz(func(t *testing.T, text string) {
		token, err := jws.Parse(text, maxLength)
		if err != nil {
			return
		}
		if strings.Count(text, ".") != 2 || len(text) > maxLength || token.Algorithm == "" || token.Type == "" || token.KeyID == "" {
			t.Fatalf("read %q as %+v", text, token)
		}
		if _, err := jws.ParseOther(text, maxLength); err != nil {
			t.Fatalf("what the strict reader takes, the other refuses: %v", err)
		}
		// Nobody signed it with this key.
		if key, err := jws.NewKey(token.KeyID, "ES256", newKey(t, elliptic.P256()).Public()); err == nil {
			if claims, err := token.Verify(key, token.Type); err == nil {
				t.Fatalf("verified %q: %v", text, claims)
			}
		}
	})
}

// FuzzParseObject compares with encoding/json: what is an object here is one there, with as many keys.
func FuzzParseObject(f *testing.F) {
	for _, seed := range []string{`{}`, `{"a":1,"A":2}`, `{"a":{"a":[{}]}}`, `{"a":1,"\u0061":2}`, `{"a":1}x`, `[]`, `{"exp":1e30}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		object, err := jws.ParseObject(data)
		if err != nil {
			return
		}
		var other map[string]any
		if err := json.Unmarshal(data, &other); err != nil || len(other) != len(object) {
			t.Fatalf("%q: %d keys here, %d there, %v", data, len(object), len(other), err)
		}
		for key := range object {
			if n, err := object.Int(key); err == nil && (n < 0 || float64(n) != other[key]) {
				t.Fatalf("%q: %s is %d here and %v there", data, key, n, other[key])
			}
		}
		if keys, err := object.KeySet(); err == nil && len(keys) > 64 {
			t.Fatalf("%d keys", len(keys))
		}
	})
}
