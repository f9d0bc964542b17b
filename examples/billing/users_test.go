package main

import (
	"log/slog"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	billingv1 "example.com/rolecall/examples/billing/gen/billing/v1"
	"example.com/rolecall/interceptors"
	"example.com/rolecall/rolecalltest"
)

// startPersonal serves personal with users whom the test names, and returns a client that calls as an operator.
func startPersonal(t *testing.T, ca *rolecalltest.CA, users *rolecalltest.Users) billingv1.BillingServiceClient {
	t.Helper()
	guard, err := interceptors.New(ca.Source("/service/billing"), interceptors.BindingsFile("roles.yaml"),
		interceptors.With(users.Feature()), interceptors.Audit(slog.DiscardHandler))
	if err != nil {
		t.Fatalf("guard of billing: %v", err)
	}
	srv := guard.NewServer()
	billingv1.RegisterBillingServiceServer(srv, &personal{})
	lis := listen(t)
	done := make(chan error, 1)
	go func() { done <- srv.Serve(lis) }()
	t.Cleanup(func() {
		srv.Stop()
		if err := <-done; err != nil {
			t.Errorf("billing: %v", err)
		}
		if err := guard.Close(); err != nil {
			t.Errorf("close the guard of billing: %v", err)
		}
	})
	conn, err := newGuard(t, ca, "/operator/alice", nil).NewClient(lis.Addr().String(), ca.ID("/service/billing"))
	if err != nil {
		t.Fatalf("connect: %v", err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return billingv1.NewBillingServiceClient(conn)
}

func TestBillingKnowsOnWhoseBehalfItIsCalled(t *testing.T) {
	t.Parallel()
	ca := rolecalltest.NewCA(t, "mesh.local")
	users := rolecalltest.NewUsers(ca)
	client := startPersonal(t, ca, users)
	ask := func(token string) (string, error) {
		ctx := interceptors.AsUser(t.Context(), token)
		answer, err := client.GetStatement(ctx, &billingv1.GetStatementRequest{AccountId: "rent"}, grpc.WaitForReady(true))
		return answer.GetText(), err
	}
	// expect asks until the answer is the wanted one: the service hears of what is revoked a moment later.
	expect := func(token, wantText, wantReason string) {
		t.Helper()
		for began := time.Now(); ; {
			text, err := ask(token)
			if text == wantText && reason(err) == wantReason {
				t.Logf("%s%s after %s", wantText, wantReason, time.Since(began).Round(time.Millisecond))
				return
			}
			if time.Since(began) > time.Minute {
				t.Fatalf("%q, %v (%v), want %q, %q", text, err, status.Code(err), wantText, wantReason)
			}
		}
	}
	token := users.Token("dave", "billing.reader")
	expect(token, "dave asks through spiffe://mesh.local/operator/alice", "")
	expect("", "", "USER_REQUIRED")
	expect(users.Token("dave"), "", "USER_ROLE_REQUIRED") // narrowed to nothing
	users.Revoke("dave")
	expect(token, "", "USER_TOKEN_REVOKED")
}
