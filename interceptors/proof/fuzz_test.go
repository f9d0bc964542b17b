package proof_test

import (
	"crypto/rand"
	"testing"
	"time"

	"google.golang.org/grpc/metadata"

	"example.com/rolecall/interceptors/internal/feature"
	"example.com/rolecall/interceptors/proof"
)

// FuzzVerify looks for a text that is accepted as a proof and is not the one that was made.
func FuzzVerify(f *testing.F) {
	m := newMesh(f, func(c *meshConfig) { c.noKeys = true })
	a := m.attacker(payer)
	body := dave
	good := a.prove(pay, body, in("exp", 60))
	for _, seed := range []string{good, good + "A", "..", a.prove(gift, body), a.prove(pay, body, claim("jti", "")), a.prove(pay, body, claim("roles", []string{"a"})), a.prove(pay, body, covers("x", "y"))} {
		f.Add(seed)
	}
	proofs, peer := m.feature.Running(), m.ca.ID(payer)
	f.Fuzz(func(t *testing.T, text string) {
		p, verdict, _ := proofs.Verify(t.Context(), &feature.SignedCall{
			Method: pay, Text: text, Body: body, Metadata: metadata.MD{}, Peer: peer, PeerKey: a.key().Public(),
		})
		if (verdict == feature.Good) != (p != nil) || verdict == feature.Good && text != good {
			t.Fatalf("verdict %d for %q", verdict, text)
		}
	})
}

// FuzzReceipt does the same for receipts and signed requests.
func FuzzReceipt(f *testing.F) {
	m := newMesh(f, func(c *meshConfig) { c.noKeys = true })
	w := m.workload(payer)
	request := w.signed(pay, 1)
	f.Add(request.GetProof(), "..", "")
	f.Add("", request.GetProof(), "x")
	f.Fuzz(func(t *testing.T, text, receipt, response string) {
		altered := &signedRequest{Method: request.GetMethod(), Request: request.GetRequest(), Proof: text}
		if _, err := proof.Claimed(altered); err == nil && len(text) < 100 {
			t.Fatalf("%q was read as a proof", text)
		}
		if err := w.feature.VerifyReceipt(t.Context(), altered, &signedResponse{Receipt: receipt, Response: []byte(response)}); err == nil {
			t.Fatalf("%q was taken for a receipt", receipt)
		}
	})
}

// FuzzWindow burns one nonce after another: none twice, whatever the times.
func FuzzWindow(f *testing.F) {
	random := make([]byte, 64)
	_, _ = rand.Read(random)
	f.Add(random)
	f.Add([]byte{0, 1, 1, 0, 200, 1, 0, 0, 1})
	f.Fuzz(func(t *testing.T, steps []byte) {
		w, used, now := proof.MemoryWindow(40, 100), map[byte]bool{}, 0
		for i := 0; i+1 < len(steps); i += 2 {
			now += int(int8(steps[i]))
			n := issued("a", int(steps[i+1]), 0)
			n.Now, n.Issued = began.Add(time.Duration(now)*time.Second), began
			if err := w.Burn(t.Context(), n); err == nil {
				if used[steps[i+1]] {
					t.Fatalf("nonce %d was burned twice", steps[i+1])
				}
				used[steps[i+1]] = true
			}
		}
	})
}

// FuzzMark reads whatever a file may hold.
func FuzzMark(f *testing.F) {
	for _, seed := range []string{"", "rolecall-proofs-accepted-through 1\n", "rolecall-proofs-accepted-through +1\n", "1"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if through, err := proof.ReadMark(text); err == nil && (through < 0 || text != proof.MarkText(through)) {
			t.Fatalf("%q was read as %d", text, through)
		}
	})
}
