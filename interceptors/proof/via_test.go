package proof_test

import (
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"google.golang.org/grpc/codes"
	pb "google.golang.org/protobuf/proto"

	"example.com/rolecall/interceptors/proof"
)

func TestNobodyButTheNamedRelayPassesARequestOn(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	signer, via, other := m.workload(payer).announced(), m.workload(relay), m.workload(second)
	request := signer.signed(pay, 1, proof.Via(m.ca.ID(relay)))
	_, err := proof.Forward(timeout(t), other.conn, request)
	refused(t, err, codes.Unauthenticated, "PROOF_INVALID")
	m.audit.find(t, map[string]any{"reason": "PROOF_INVALID", "detail": `it is to be passed on by "` + m.ca.ID(relay).String() + `", and nobody else`})
	// Which has used nothing up.
	if _, err := proof.Forward(timeout(t), via.conn, request); err != nil {
		t.Errorf("by the named relay: %v", err)
	}
	// The signer may send it itself.
	if _, err := proof.Forward(timeout(t), signer.conn, signer.signed(pay, 1, proof.Via(m.ca.ID(relay)))); err != nil {
		t.Errorf("by the signer: %v", err)
	}
	if _, err := proof.Forward(timeout(t), other.conn, signer.signed(pay, 1)); err != nil {
		t.Errorf("without via, by anybody: %v", err)
	}
	for _, id := range []spiffeid.ID{{}, m.ca.ID(relay).TrustDomain().ID()} {
		if _, err := signer.feature.Signer().Sign(m.ca.ID(bankPath), payment(t, "dave", 1), pay, proof.Via(id)); err == nil {
			t.Errorf("signed for %q to pass on", id)
		}
	}
	a := m.attacker(payer)
	for name, value := range map[string]any{
		"empty": "", "no SPIFFE ID": "relay", "without a path": "spiffe://mesh.local", "in upper case": "SPIFFE://mesh.local/service/relay", "a list": []string{m.ca.ID(relay).String()},
	} {
		_, err := send(timeout(t), a.conn, pay, dave, "rolecall-proof", a.prove(pay, dave, claim("via", value)))
		if reason := infoOf(err).GetReason(); reason != "PROOF_INVALID" {
			t.Errorf("via %s: got %v, want PROOF_INVALID", name, err)
		}
	}
}

func TestARelayReadsWhatARequestClaims(t *testing.T) {
	t.Parallel()
	m := newMesh(t, func(c *meshConfig) { c.noKeys = true })
	w := m.workload(payer)
	request := w.signed(pay, 1, proof.Via(m.ca.ID(relay)))
	claim, err := proof.Claimed(request)
	if left := time.Until(claim.Expires); err != nil || claim.Signer != m.ca.ID(payer) || claim.Via != m.ca.ID(relay) || left < 40*time.Second || left > time.Minute {
		t.Errorf("got %+v, %v", claim, err)
	}
	if claim, err := proof.Claimed(w.signed(pay, 1)); err != nil || !claim.Via.IsZero() {
		t.Errorf("without via: %+v, %v", claim, err)
	}
	other := pb.CloneOf(request)
	other.Request = bodyOf(t, "dave", 2)
	if claim, err := proof.Claimed(other); err == nil || claim != (proof.Claim{}) {
		t.Errorf("of other bytes: %+v, %v, want an error", claim, err)
	}
	// No server takes it, however long a relay would wait.
	a := m.attacker(payer)
	long := pb.CloneOf(request)
	long.Request, long.Proof = dave, a.prove(pay, dave, in("exp", 61))
	if claim, err := proof.Claimed(long); err == nil {
		t.Errorf("good for more than a minute: %+v, want an error", claim)
	}
}
