package interceptors_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	ledgerv1 "example.com/rolecall/gen/ledger/v1"
	"example.com/rolecall/interceptors"
	"example.com/rolecall/interceptors/internal/feature"
	exact "example.com/rolecall/interceptors/internal/wire"
)

// TestTheOrderOfChecks makes a call that everything is wrong with, and puts right one thing after the other: each time the
// next check in the order refuses it, and no later one has been asked.
func TestTheOrderOfChecks(t *testing.T) {
	t.Parallel()
	registerTill(t)
	const (
		noRole   = "trustDomain: mesh.local\n"
		withRole = noRole + "bindings: [{role: till.clerk, members: [spiffe://mesh.local/service/clerk]}]\n"
		ownID    = "denied: [{member: spiffe://mesh.local/service/clerk}]\n"
	)
	key := sha256.Sum256([]byte("former key"))
	formerKey := `denied: [{keySha256: "` + hex.EncodeToString(key[:]) + "\"}]\n"
	for right, want := range []string{
		"IDENTITY_DENIED", "ROLE_REQUIRED", "USER_TOKEN_INVALID", "ROLE_REQUIRED", "PROOF_REQUIRED", "PROOF_INVALID", "IDENTITY_DENIED",
		"PROOF_WINDOW_FULL", "the body", "REQUEST_ID_REUSED", "",
	} {
		m := newMesh(t, func(c *meshConfig) {
			policy := withRole
			if right <= 1 {
				policy = noRole
			}
			switch {
			case right == 0:
				policy += ownID
			case right <= 6:
				policy += formerKey
			}
			c.bindings = interceptors.BindingsYAML([]byte(policy))
		}, func(c *meshConfig) {
			c.register = func(s *interceptors.Server) {
				service := &till{}
				s.RegisterService(&grpc.ServiceDesc{
					ServiceName: "till.v1.Everything", HandlerType: (*any)(nil), Metadata: "till/v1/till.proto", Methods: []grpc.MethodDesc{service.method("till.v1.Everything", "Settle")},
				}, service)
			}
		}, func(c *meshConfig) {
			c.options = []interceptors.Option{interceptors.With(&fakeUsers{})}
		})
		var asked []string
		step := func(name string, wrong int, v feature.Verdict) feature.Verdict {
			asked = append(asked, name)
			if right <= wrong {
				return v
			}
			return feature.Good
		}
		m.proofs.verify = func(*feature.SignedCall) feature.Verdict { return step("verify", 5, feature.Invalid) }
		m.proofs.allow = func(*feature.Proof) feature.Verdict { return step("allow", 7, feature.Full) }
		m.once.do = func(ctx context.Context, _ *feature.OnceCall, run run) ([]byte, feature.Verdict, string, error) {
			if v := step("once", 9, feature.Reused); v != feature.Good {
				return nil, v, "", nil
			}
			_, err := run(ctx)
			return nil, feature.Good, "", err
		}
		ctx := timeout(t)
		if right <= 2 {
			ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Basic YTpi")
		} else {
			ctx = interceptors.AsUser(ctx, "alice")
		}
		if right >= 5 {
			ctx = proving(ctx, fakeProof{Key: key})
		}
		body := []byte{0xff}
		if right > 8 {
			body = nil
		}
		// The role goes while the body is on its way.
		stream, err := m.unsigned(clerk).NewStream(ctx, &grpc.StreamDesc{}, settle, grpc.ForceCodecV2(exact.Codec()))
		must(t, err)
		if right == 3 {
			eventually(t, "a call that waits for its body", func() bool { return m.server.Books().Bodies == 1 })
			must(t, m.server.PutInForce(noRole+formerKey))
		}
		_ = stream.SendMsg(&exact.Raw{Bytes: body})
		_ = stream.CloseSend()
		err = stream.RecvMsg(&ledgerv1.OpenAccountResponse{})
		got := ""
		switch {
		case want == "the body":
			if status.Code(err) != codes.Internal {
				t.Errorf("%d things put right: got %v, want the refusal of the body", right, err)
			}
			got = want
		case want != "":
			refused(t, err, status.Code(err), want)
			got = want
		case err != nil:
			t.Errorf("everything is right: %v", err)
		}
		wantAsked := map[int][]string{5: {"verify"}, 6: {"verify"}, 7: {"verify", "allow"}, 8: {"verify", "allow"}, 9: {"verify", "allow", "once"}, 10: {"verify", "allow", "once"}}[right]
		if got != want || len(asked) != len(wantAsked) || len(asked) > 0 && asked[len(asked)-1] != wantAsked[len(wantAsked)-1] {
			t.Errorf("%d things put right: refused with %q after asking %q, want %q after %q", right, got, asked, want, wantAsked)
		}
	}
}
