package pki_test

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"time"

	"example.com/rolecall/pki"
)

// accessToken is one that nobody has signed: an inspection does not verify it.
func accessToken(typ, claims string) []byte {
	text := base64.RawURLEncoding.EncodeToString
	return []byte(text([]byte(`{"alg":"ES256","kid":"k1","typ":"`+typ+`"}`)) + "." + text([]byte(claims)) + "." + text(make([]byte, 64)) + "\n")
}

func TestAnAccessTokenIsExplained(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_763_800_000, 0)
	full := fmt.Sprintf(`{"iss":"spiffe://mesh.local/service/tokens","aud":"spiffe://mesh.local","sub":"dave","client_id":"spiffe://mesh.local/operator/bob",`+
		`"sid":"s1","roles":["orders.customer","orders.reader"],"gen":3,"iat":%d,"exp":%d,"auth_time":%d,"ext":{"tier":"gold"}}`,
		now.Unix()-60, now.Unix()+540, now.Unix()-60)
	for name, tc := range map[string]struct {
		token []byte
		ok    bool
		says  []string
	}{
		"a good one": {accessToken("at+jwt", full), true, []string{"access token", "dave", "orders.customer, orders.reader",
			"spiffe://mesh.local/service/tokens", "spiffe://mesh.local/operator/bob", "(in 9m0s)", "generation", "3", "not verified", "there are some"}},
		"one with the long form of its type": {accessToken("application/at+JWT", full), true, []string{"access token"}},
		"one without roles":                  {accessToken("at+jwt", strings.Replace(full, `["orders.customer","orders.reader"]`, "[]", 1)), true, []string{"roles", "none"}},
		"an expired one":                     {accessToken("at+jwt", strings.Replace(full, fmt.Sprint(now.Unix()+540), fmt.Sprint(now.Unix()), 1)), false, []string{"expired at"}},
		"one without an end, for nobody, of nobody": {accessToken("at+jwt", `{}`), false,
			[]string{"it has no end", "it names no user", "it names no issuer", "it names no audience"}},
		"one with a generation that is none": {accessToken("at+jwt", `{"gen":"x"}`), false, []string{"claims"}},
		"a JWT-SVID that is none":            {accessToken("JWT", full), false, []string{"JWT-SVID", "no SPIFFE ID"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			i, err := pki.Inspect(tc.token, now)
			if err != nil {
				t.Fatal(err)
			}
			var text bytes.Buffer
			if err := i.WriteText(&text); err != nil {
				t.Fatal(err)
			}
			if i.OK() != tc.ok {
				t.Errorf("OK: %v, want %v", i.OK(), tc.ok)
			}
			for _, want := range tc.says {
				if !strings.Contains(text.String(), want) {
					t.Errorf("%q is missing in:\n%s", want, &text)
				}
			}
			if strings.Contains(text.String(), "gold") {
				t.Errorf("the attributes of the user are shown:\n%s", &text)
			}
		})
	}
}
