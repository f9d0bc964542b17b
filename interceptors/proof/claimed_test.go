package proof_test

import (
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"

	"example.com/rolecall/interceptors/proof"
)

// Who relays stores what a proof claims, and asks others with it: nothing that is no name of a workload gets so far.
func TestAClaimedSignerIsTheNameOfAWorkload(t *testing.T) {
	t.Parallel()
	m := newMesh(t, func(c *meshConfig) { c.noKeys = true })
	w := m.workload(payer)
	const prefix = "spiffe://mesh.local/service/"
	for claimed, good := range map[string]bool{
		prefix + "shop":                                  true,
		"spiffe://other.example/shop":                    true,
		prefix + strings.Repeat("e", 2048-len(prefix)):   true,
		prefix + strings.Repeat("e", 2048-len(prefix)+1): false,
		"":                                    false,
		"shop":                                false,
		"spiffe://":                           false,
		"spiffe://mesh.local":                 false,
		"spiffe://mesh.local/":                false,
		"SPIFFE://mesh.local/service/shop":    false,
		"spiffe://Mesh.local/service/shop":    false,
		"spiffe://mesh.local/service/shop/":   false,
		"spiffe://mesh.local/service/../shop": false,
		"spiffe://mesh.local/service/sh%6Fp":  false,
		"spiffe://mesh.local/service/shöp":    false,
		"spiffe://mesh.local:1/service/shop":  false,
		"spiffe://a@mesh.local/service/shop":  false,
		"spiffe://mesh.local/service/shop?a":  false,
		"spiffe://mesh.local/service/shop#a":  false,
		"spiffe://mesh.local/service/shop\n":  false,
		" spiffe://mesh.local/service/shop":   false,
	} {
		request := w.signed(pay, 1)
		parts := strings.Split(request.GetProof(), ".")
		text, err := base64.RawURLEncoding.DecodeString(parts[1])
		must(t, err)
		var claims map[string]any
		must(t, json.Unmarshal(text, &claims))
		claims["iss"] = claimed
		text, err = json.Marshal(claims)
		must(t, err)
		parts[1] = base64.RawURLEncoding.EncodeToString(text)
		request.Proof = strings.Join(parts, ".")
		claim, err := proof.Claimed(request)
		id := claim.Signer
		if (err == nil) != good || good && id.String() != claimed {
			t.Errorf("%.100q (%d bytes): got %.100s, %v, want good: %v", claimed, len(claimed), id, err, good)
		}
	}
}
