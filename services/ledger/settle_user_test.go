package ledger_test

import (
	"context"
	"testing"

	"github.com/google/uuid"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	ledgerv1 "example.com/rolecall/gen/ledger/v1"
	"example.com/rolecall/interceptors"
	"example.com/rolecall/internal/node"
	"example.com/rolecall/internal/node/nodetest"
	"example.com/rolecall/internal/store/storetest"
	"example.com/rolecall/rolecalltest"
	"example.com/rolecall/services/ledger"
)

// A gateway sends the requests of many users: none of them names those of another, to read or to cancel.
func TestAUserReachesOnlyRequestsOnBehalfOfHerself(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, url string) {
		k := newBank(t, url)
		shop, erins, daves := k.account(t, "spiffe://mesh.local/service/shop", 0), k.account(t, "user:erin", 100), k.account(t, "user:dave", 100)
		erin := interceptors.AsUser(nodetest.Context(t), k.people.Token("erin"))
		request := func(from string) *ledgerv1.TransferRequest {
			req := transfer(from, shop, 1)
			req.RequestId = uuid.NewString()
			return req
		}
		for name, tc := range map[string]struct {
			ctx  context.Context
			user string
			ok   bool
		}{
			"dave, hers":                         {k.dave(t), "user:erin", false},
			"dave, with a role that is not":      {k.dave(t, "ledger.writer"), "user:erin", false},
			"dave of the company, hers":          {k.stranger(t), "user:erin", false},
			"erin, her own by name":              {erin, "user:erin", true},
			"erin, her own":                      {erin, "", true},
			"an administrator, hers":             {k.dave(t, "ledger.admin"), "user:erin", true},
			"nobody, as the worker of a gateway": {nodetest.Context(t), "user:erin", true},
		} {
			t.Run(name, func(t *testing.T) {
				made, cancelled := request(erins), request(erins)
				if _, err := k.orders.Transfer(erin, made); err != nil {
					t.Fatalf("transfer: %v", err)
				}
				reason, state := "USER_ROLE_REQUIRED", ""
				if tc.ok {
					reason, state = "", "TRANSFER_CANCELLED"
				}
				read, err := k.orders.GetTransfer(tc.ctx, &ledgerv1.GetTransferRequest{RequestId: made.GetRequestId(), User: tc.user})
				if nodetest.Reason(err) != reason || (read.GetTransfer().GetUser() == "user:erin") != tc.ok {
					t.Errorf("read: got %v, %v, want %q", read, err, reason)
				}
				answer, err := k.orders.CancelTransfer(tc.ctx, &ledgerv1.CancelTransferRequest{RequestId: made.GetRequestId(), User: tc.user})
				if nodetest.Reason(err) != reason || (answer.GetTransfer() != nil) != tc.ok {
					t.Errorf("cancel what is made: got %v, %v, want %q", answer, err, reason)
				}
				answer, err = k.orders.CancelTransfer(tc.ctx, &ledgerv1.CancelTransferRequest{RequestId: cancelled.GetRequestId(), User: tc.user})
				if nodetest.Reason(err) != reason || answer.GetTransfer() != nil {
					t.Errorf("cancel what is to come: got %v, %v, want %q", answer, err, reason)
				}
				if _, err := k.orders.Transfer(erin, cancelled); nodetest.Reason(err) != state {
					t.Errorf("erin's request then: got %v, want %q", err, state)
				}
			})
		}
		// Without a name it is about dave's own, though erin has used the same request_id.
		his := request(daves)
		if answer, err := k.orders.CancelTransfer(erin, &ledgerv1.CancelTransferRequest{RequestId: his.GetRequestId()}); err != nil || answer.GetTransfer() != nil {
			t.Errorf("erin cancels one of her own: %v, %v", answer, err)
		}
		if _, err := k.orders.Transfer(k.dave(t), his); err != nil {
			t.Errorf("dave's request with that request_id: %v", err)
		}
	})
}

// Whose token it is, this ledger cannot tell: it is not taken for a call on behalf of nobody.
func TestALedgerThatVerifiesNoUsersSettlesNothingForOne(t *testing.T) {
	t.Parallel()
	mesh := nodetest.New(t, roles)
	b := &books{mesh: mesh, service: mesh.Start(t, "ledger", "", ledger.Setup, func(cfg *node.Config) { cfg.Tokens = nil })}
	people := rolecalltest.NewUsers(mesh.CA)
	ctx := interceptors.AsUser(nodetest.Context(t), people.Token("dave"))
	orders, id := b.as(t, "/service/orders"), uuid.NewString()
	if answer, err := orders.CancelTransfer(ctx, &ledgerv1.CancelTransferRequest{RequestId: id, User: "user:erin"}); status.Code(err) != codes.FailedPrecondition {
		t.Errorf("cancel: got %v, %v, want FailedPrecondition", answer, err)
	}
	if answer, err := orders.GetTransfer(ctx, &ledgerv1.GetTransferRequest{RequestId: id, User: "user:erin"}); status.Code(err) != codes.FailedPrecondition {
		t.Errorf("read: got %v, %v, want FailedPrecondition", answer, err)
	}
}
