package interceptors_test

import (
	"context"
	"encoding/hex"
	"strings"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	ledgerv1 "example.com/rolecall/gen/ledger/v1"
	"example.com/rolecall/interceptors"
	"example.com/rolecall/interceptors/internal/feature"
)

func TestAnOpenStreamOfASignerEndsWithWhatTheSignerHad(t *testing.T) {
	t.Parallel()
	const signerOnly = `
trustDomain: mesh.local
bindings:
  - role: till.manager
    members: [spiffe://mesh.local/service/manager]
`
	for _, c := range []struct{ name, bindings, reason string }{
		{"role taken away", signerOnly, "ROLE_REQUIRED"},
		{"denied", tillRoles + "denied: [{member: spiffe://mesh.local" + clerk + "}]\n", "IDENTITY_DENIED"},
		{"key denied", tillRoles + `denied: [{keySha256: "` + hex.EncodeToString(signingKey[:]) + "\"}]\n", "IDENTITY_DENIED"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			m, _ := newTill(t)
			conn := connected(t, m.dial(manager))
			own, err := followOnce(timeout(t), conn)
			must(t, err)
			relayed, err := followOnce(proving(timeout(t), fakeProof{Signer: m.ca.ID(clerk), Key: signingKey}), conn)
			must(t, err)
			must(t, m.guard.Apply(c.bindings))
			info := refused(t, relayed.RecvMsg(&ledgerv1.OpenAccountResponse{}), codes.PermissionDenied, c.reason)
			if info["of"] != "signer" {
				t.Errorf("metadata %v, want of=signer", info)
			}
			m.audit.find(t, map[string]any{"event": "stream", "verdict": "denied", "reason": c.reason, "signer": "spiffe://mesh.local" + clerk})
			must(t, ask(timeout(t), conn, look))
			m.keepsOneStream(t, own)
		})
	}
}

func TestAnOpenStreamEndsWhenTheKeyOfItsSignerIsNoLongerGood(t *testing.T) {
	t.Parallel()
	m, _ := newTill(t)
	var gone atomic.Bool
	m.proofs.stands = func(*feature.Proof) feature.Verdict {
		if gone.Load() {
			return feature.Unknown
		}
		return feature.Good
	}
	conn := connected(t, m.dial(manager))
	own, err := followOnce(timeout(t), conn)
	must(t, err)
	relayed, err := followOnce(proving(timeout(t), fakeProof{Signer: m.ca.ID(clerk), Key: signingKey}), conn)
	must(t, err)
	gone.Store(true)
	refused(t, relayed.RecvMsg(&ledgerv1.OpenAccountResponse{}), codes.Unauthenticated, "PROOF_SIGNER_UNKNOWN")
	m.audit.find(t, map[string]any{"event": "stream", "reason": "PROOF_SIGNER_UNKNOWN", "signer": "spiffe://mesh.local" + clerk})
	// The peer's own stands with its connection.
	m.keepsOneStream(t, own)
}

// keepsOneStream checks that the own stream of the only peer is left, on its only connection.
func (m *mesh) keepsOneStream(t *testing.T, own grpc.ClientStream) {
	t.Helper()
	eventually(t, "the peer's own stream alone", func() bool { // the handler of the other one may still be on its way out
		return m.server.Books() == interceptors.Books{Connections: 1, Peers: 1, Streams: 1}
	}, func() any { return m.server.Books() })
	if err := own.Context().Err(); err != nil {
		t.Errorf("the peer's own stream has ended: %v", err)
	}
}

func TestBeforeTheRequestOfAStreamNobodyHoldsARole(t *testing.T) {
	t.Parallel()
	type seen struct {
		clerk bool
		roles int
		err   error
	}
	look := func(ctx context.Context) seen {
		caller := interceptors.CallerFrom(ctx)
		return seen{caller.HasRole("till.clerk"), len(caller.Roles()), caller.Require("till.clerk")}
	}
	looks := make(chan seen, 2)
	m, s := newTill(t)
	s.stream = func(stream grpc.ServerStream) error {
		looks <- look(stream.Context())
		if err := stream.RecvMsg(&ledgerv1.OpenAccountRequest{}); err != nil {
			return err
		}
		looks <- look(stream.Context())
		return stream.SendMsg(&ledgerv1.OpenAccountResponse{})
	}
	_, err := followOnce(proving(timeout(t), fakeProof{Signer: m.ca.ID(clerk), Key: signingKey}), m.dial(manager))
	must(t, err)
	before, after := <-looks, <-looks
	if before.clerk || before.roles != 0 {
		t.Errorf("before the request: %+v, want no role", before)
	}
	refused(t, before.err, codes.Unauthenticated, "PROOF_REQUIRED")
	if !after.clerk || after.roles != 1 || after.err != nil {
		t.Errorf("after it: %+v, want the clerk's role, which both hold", after)
	}
}

func TestAStreamIsProvenByItsFirstMessage(t *testing.T) {
	t.Parallel()
	early := make(chan error, 1)
	for _, c := range []struct {
		name    string
		handler func(grpc.ServerStream) error
	}{
		{"a handler that sends before it has received", func(stream grpc.ServerStream) error {
			early <- stream.SendMsg(&ledgerv1.OpenAccountResponse{})
			return nil
		}},
		{"a handler that never receives", func(grpc.ServerStream) error { return nil }},
	} {
		m, s := newTill(t)
		s.stream = c.handler
		_, err := followOnce(timeout(t), m.dial(clerk))
		refused(t, err, codes.Unauthenticated, "PROOF_REQUIRED")
		if used := m.proofs.used(); len(used) > 0 || strings.Contains(m.audit.String(), `"verdict":"allowed"`) {
			t.Errorf("%s: used up %v, on record: %s", c.name, used, m.audit.String())
		}
	}
	refused(t, <-early, codes.Unauthenticated, "PROOF_REQUIRED")

	m, _ := newTill(t)
	stream, err := followOnce(timeout(t), m.dial(clerk))
	must(t, err)
	m.audit.find(t, map[string]any{"verdict": "allowed", "method": follow, "signer": "spiffe://mesh.local" + clerk})
	if n := len(m.proofs.seen()); n != 1 {
		t.Errorf("%d proofs were verified for one stream", n)
	}
	m.server.Stop()
	_ = stream.RecvMsg(&ledgerv1.OpenAccountResponse{})
	if receipts := stream.Trailer()["rolecall-receipt"]; len(receipts) > 0 {
		t.Errorf("a stream has the receipts %q", receipts)
	}
}
