package proof_test

import (
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
)

func TestTheRecordOfASignerThatIsNotKnownNamesIt(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	via, signer := m.attacker(relay), m.attacker(payer) // which announces nothing
	other := m.workload(payer).announced()
	for _, c := range []struct{ name, reason, text, kid string }{
		{"a key that nobody knows", "PROOF_SIGNER_UNKNOWN", signer.prove(pay, dave), kidOf(t, &signer.key().PublicKey)},
		{"a bad signature", "PROOF_INVALID", signer.prove(pay, dave, header("kid", other.feature.Acknowledged())), other.feature.Acknowledged()},
	} {
		_, err := send(timeout(t), via.conn, pay, dave, "rolecall-proof", c.text, "x-request-id", c.reason)
		refused(t, err, codes.Unauthenticated, c.reason)
		detail, _ := m.audit.find(t, map[string]any{"reason": c.reason, "request_id": c.reason})["detail"].(string)
		if want := `it claims to be of "` + m.ca.ID(payer).String() + `" with the key "` + c.kid + `": `; !strings.HasPrefix(detail, want) {
			t.Errorf("%s: the record says %q, want %q", c.name, detail, want)
		}
	}
}
