package proof_test

import (
	"context"
	"sync/atomic"
	"testing"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	pb "google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/dynamicpb"

	rolecallv1 "example.com/rolecall/gen/rolecall/v1"
	"example.com/rolecall/interceptors"
	"example.com/rolecall/interceptors/proof"
)

// signed is a payment that a workload has signed for somebody else to send.
func (w *workload) signed(method string, amount int64, opts ...proof.SignOption) *rolecallv1.SignedRequest {
	w.t.Helper()
	request, err := w.feature.Signer().Sign(w.ca.ID(bankPath), payment(w.t, "dave", amount), method, opts...)
	must(w.t, err)
	return request
}

func TestARelayedProof(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	signer, via := m.workload(payer).announced(), m.workload(relay)
	var callers atomic.Pointer[[2]spiffeid.ID]
	m.bank.handling(func(ctx context.Context, _ *dynamicpb.Message) error {
		caller := interceptors.CallerFrom(ctx)
		signer, _ := caller.Signer()
		callers.Store(&[2]spiffeid.ID{caller.ID(), signer})
		return nil
	})
	request := signer.signed(pay, 7)
	if claim, err := proof.Claimed(request); err != nil || claim.Signer != m.ca.ID(payer) {
		t.Errorf("claimed signer %s, %v", claim.Signer, err)
	}
	// What the relay's own call has along stays with the relay.
	ctx := interceptors.AsUser(metadata.AppendToOutgoingContext(timeout(t), "rolecall-proof", "old", "x-request-id", "r1"), "a.user.token")
	response, err := proof.Forward(ctx, via.conn, request)
	if err != nil {
		t.Fatal(err)
	}
	if got := *callers.Load(); got != [2]spiffeid.ID{m.ca.ID(relay), m.ca.ID(payer)} {
		t.Errorf("the handler saw %s, want the relay and the signer", got)
	}
	// Its receipt reaches the signer.
	if err := signer.feature.VerifyReceipt(timeout(t), request, response); err != nil {
		t.Errorf("receipt: %v", err)
	}
	answer := paid(t)
	must(t, pb.Unmarshal(response.GetResponse(), answer))
	if total := get(answer, "paid").Int(); total != 7 {
		t.Errorf("%d was paid, want 7", total)
	}
	// Once.
	_, err = proof.Forward(timeout(t), via.conn, request)
	refused(t, err, codes.Unauthenticated, "PROOF_REPLAYED")
	if n := signer.mesh.keys.asked.Load(); n == 0 {
		t.Error("nobody asked the key server")
	}
}

func TestARelayCanChangeNothing(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	signer, via := m.workload(payer).announced(), m.workload(relay)
	good := signer.signed(pay, 7)
	for name, alter := range map[string]func(*rolecallv1.SignedRequest){
		"the amount":    func(r *rolecallv1.SignedRequest) { r.Request = bodyOf(t, "dave", 8) },
		"a byte more":   func(r *rolecallv1.SignedRequest) { r.Request = append(r.Request, 0x18, 0x01) },
		"the method":    func(r *rolecallv1.SignedRequest) { r.Method = gift },
		"the signature": func(r *rolecallv1.SignedRequest) { r.Proof = signer.signed(pay, 8).GetProof() },
	} {
		request := pb.CloneOf(good)
		alter(request)
		_, err := proof.Forward(timeout(t), via.conn, request)
		if reason := infoOf(err).GetReason(); reason != "PROOF_INVALID" {
			t.Errorf("%s: got %v with %q, want PROOF_INVALID", name, err, reason)
		}
	}
	for name, request := range map[string]*rolecallv1.SignedRequest{
		"no method":  {Method: "pay", Request: good.GetRequest(), Proof: good.GetProof()},
		"no proof":   {Method: pay, Request: good.GetRequest()},
		"two proofs": {Method: pay, Request: good.GetRequest(), Proof: good.GetProof() + "\r\nrolecall-proof: x"},
		"nothing":    nil,
	} {
		if _, err := proof.Forward(timeout(t), via.conn, request); codeOf(err) != codes.InvalidArgument {
			t.Errorf("%s: got %v, want INVALID_ARGUMENT", name, err)
		}
	}
	if n := m.bank.reached.Load(); n != 0 {
		t.Errorf("a handler was reached %d times", n)
	}
	if _, err := proof.Forward(timeout(t), via.conn, good); err != nil {
		t.Errorf("unchanged: %v", err)
	}
}

func TestSignerWithoutTheRoleAndPeerWithoutTheRole(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	signer, via, carol := m.workload(payer).announced(), m.workload(relay), m.workload(nobody).announced()
	// The signer has not got the role, the peer has.
	_, err := proof.Forward(timeout(t), via.conn, carol.signed(pay, 1))
	if of := refused(t, err, codes.PermissionDenied, "ROLE_REQUIRED")["of"]; of != "signer" {
		t.Errorf("the role is missing of %q, want signer", of)
	}
	// The signer has given it up.
	_, err = proof.Forward(timeout(t), via.conn, signer.signed(pay, 1, proof.Narrowed()))
	refused(t, err, codes.PermissionDenied, "ROLE_REQUIRED")
	_, err = proof.Forward(timeout(t), via.conn, signer.signed(pay, 1, proof.Narrowed("bank.payer"), proof.Narrowed("bank.other")))
	refused(t, err, codes.PermissionDenied, "ROLE_REQUIRED")
	// The peer has not got it, the signer has.
	_, err = proof.Forward(timeout(t), carol.conn, signer.signed(pay, 1))
	if of := refused(t, err, codes.PermissionDenied, "ROLE_REQUIRED")["of"]; of == "signer" {
		t.Error("the role is missing of the signer, want the peer")
	}
	// The peer has given it up.
	_, err = proof.Forward(interceptors.Narrow(timeout(t)), via.conn, signer.signed(pay, 1))
	refused(t, err, codes.PermissionDenied, "ROLE_REQUIRED")
	if n := m.bank.reached.Load(); n != 0 {
		t.Errorf("a handler was reached %d times", n)
	}
	if _, err = proof.Forward(interceptors.Narrow(timeout(t), "bank.payer"), via.conn, signer.signed(pay, 1, proof.Narrowed("bank.admin"), proof.Narrowed("bank.payer"))); err != nil {
		t.Errorf("both have kept it: %v", err)
	}
}

func TestSignerDenied(t *testing.T) {
	t.Parallel()
	for name, denied := range map[string]func(*workload) string{
		"by its ID":  func(w *workload) string { return "  - member: spiffe://mesh.local/service/payer\n" },
		"by its key": func(w *workload) string { return "  - keySha256: " + keySum(w.source) + "\n" },
		"by its key and ID": func(w *workload) string {
			return "  - {member: spiffe://mesh.local/service/payer, keySha256: " + keySum(w.source) + "}\n"
		},
		"by a CA of its key": func(w *workload) string { return "  - keySha256: " + sumOf(w.ca.Root()) + "\n" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMesh(t)
			signer, via := m.workload(payer).announced(), m.workload(relay)
			if _, err := proof.Forward(timeout(t), via.conn, signer.signed(pay, 1)); err != nil {
				t.Fatal(err) // and the key is remembered
			}
			m.bind(roles+"denied:\n"+denied(signer), func() bool {
				_, err := proof.Forward(timeout(t), via.conn, signer.signed(pay, 1))
				return err != nil
			})
			before := m.bank.reached.Load()
			_, err := proof.Forward(timeout(t), via.conn, signer.signed(pay, 1))
			if name == "by a CA of its key" {
				if infoOf(err) == nil && codeOf(err) != codes.Unavailable {
					t.Errorf("got %v, want a refusal of everybody", err)
				}
			} else if of := refused(t, err, codes.PermissionDenied, "IDENTITY_DENIED")["of"]; of != "signer" {
				t.Errorf("denied is %q, want signer", of)
			}
			if n := m.bank.reached.Load() - before; n != 0 {
				t.Errorf("a handler was reached %d times", n)
			}
		})
	}
}
