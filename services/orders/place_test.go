package orders_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	ledgerv1 "example.com/rolecall/gen/ledger/v1"
	ordersv1 "example.com/rolecall/gen/orders/v1"
	usersv1 "example.com/rolecall/gen/users/v1"
	"example.com/rolecall/internal/node/nodetest"
	"example.com/rolecall/internal/store/storetest"
)

func TestAnOrderIsPaidAndStored(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, url string) {
		s := newShop(t, url, roles)
		placed, err := s.alice.PlaceOrder(s.as(t, "dave"), s.request())
		if err != nil {
			t.Fatalf("place order: %v", err)
		}
		want := &ordersv1.Order{
			OrderId: placed.GetOrder().GetOrderId(), Username: "dave", Item: "a book", Price: s.request().GetPrice(),
			PayingAccount: s.daves, ReceivingAccount: s.till,
			State: ordersv1.Order_STATE_PAID, TransferId: placed.GetOrder().GetTransferId(), CreateTime: placed.GetOrder().GetCreateTime(),
		}
		if diff := cmp.Diff(&ordersv1.PlaceOrderResponse{Order: want}, placed, protocmp.Transform()); diff != "" {
			t.Errorf("placed (-want +got):\n%s", diff)
		}
		made, err := s.books.GetTransfer(nodetest.Context(t), &ledgerv1.GetTransferRequest{TransferId: want.GetTransferId()})
		if err != nil {
			t.Fatalf("get transfer: %v", err)
		}
		wantTransfer := &ledgerv1.TransferRecord{
			TransferId: want.GetTransferId(), FromAccount: s.daves, ToAccount: s.till, Amount: want.GetPrice(),
			Note: "order " + want.GetOrderId(), CreateTime: made.GetTransfer().GetCreateTime(),
			Caller: "spiffe://mesh.local/service/orders", Signer: "spiffe://mesh.local/service/orders", User: "user:dave",
		}
		if diff := cmp.Diff(wantTransfer, made.GetTransfer(), protocmp.Transform()); diff != "" {
			t.Errorf("the transfer (-want +got):\n%s", diff)
		}
		read, err := s.alice.GetOrder(nodetest.Context(t), &ordersv1.GetOrderRequest{OrderId: want.GetOrderId()})
		if err != nil {
			t.Fatalf("get order: %v", err)
		}
		if diff := cmp.Diff(want, read.GetOrder(), protocmp.Transform()); diff != "" {
			t.Errorf("read (-want +got):\n%s", diff)
		}
	})
}

func TestWhatBecomesOfAnOrderThatLedgerDoesNotPay(t *testing.T) {
	t.Parallel()
	s := newShop(t, "", roles)
	for name, tc := range map[string]struct {
		ledger  error
		failure string
	}{
		"refused: too little money":   {status.Error(codes.FailedPrecondition, "below zero"), "the payment was cancelled: ledger answered FailedPrecondition"},
		"refused: no such account":    {status.Error(codes.NotFound, "no account"), "the payment was cancelled: ledger answered NotFound"},
		"refused: not its account":    {status.Error(codes.PermissionDenied, "not owned"), "the payment was cancelled: ledger answered PermissionDenied"},
		"refused: too many at once":   {status.Error(codes.ResourceExhausted, "later"), "the payment was cancelled: ledger answered ResourceExhausted"},
		"unknown: ledger went away":   {status.Error(codes.Unavailable, "gone"), "the payment was cancelled: ledger answered Unavailable"},
		"unknown: ledger broke":       {status.Error(codes.Internal, "broken"), "the payment was cancelled: ledger answered Internal"},
		"unknown: commit unknown":     {status.Error(codes.Unknown, "who knows"), "the payment was cancelled: ledger answered Unknown"},
		"unknown: the time was over":  {status.Error(codes.DeadlineExceeded, "late"), "the payment was cancelled: ledger answered DeadlineExceeded"},
		"unknown: ledger was aborted": {status.Error(codes.Aborted, "again"), "the payment was cancelled: ledger answered Aborted"},
	} {
		s.onTransfer(func(context.Context, *ledgerv1.TransferRequest, func() (*ledgerv1.TransferResponse, error)) (*ledgerv1.TransferResponse, error) {
			return nil, tc.ledger
		})
		answer, err := s.alice.PlaceOrder(s.as(t, "dave"), s.request())
		if err != nil || answer.GetOrder().GetState() != ordersv1.Order_STATE_FAILED || !strings.HasPrefix(answer.GetOrder().GetFailure(), tc.failure) {
			t.Errorf("%s: got %v, %v, want it FAILED: %s", name, answer, err, tc.failure)
		}
		stored, err := s.alice.GetOrder(nodetest.Context(t), &ordersv1.GetOrderRequest{OrderId: answer.GetOrder().GetOrderId()})
		if err != nil || !proto.Equal(answer.GetOrder(), stored.GetOrder()) {
			t.Errorf("%s: answered %v, stored %v, %v", name, answer.GetOrder(), stored.GetOrder(), err)
		}
	}
	s.wantTakings(t, 0)
}

func TestAnOrderOutOfAnAccountOfAnotherUserFails(t *testing.T) {
	t.Parallel()
	s := newShop(t, "", roles)
	answer, err := s.alice.PlaceOrder(s.as(t, "erin"), s.request()) // which names dave's account
	if err != nil || answer.GetOrder().GetState() != ordersv1.Order_STATE_FAILED || !strings.Contains(answer.GetOrder().GetFailure(), "somebody else") {
		t.Errorf("got %v, %v, want a FAILED order that says why", answer, err)
	}
	s.wantTakings(t, 0)
}

// While orders may not write to ledger, it cannot forbid a payment that it may have sent when it was still allowed to.
func TestAnOrderWithoutTheRoleOfItsOwnServiceIsPendingUntilItIsGivenBack(t *testing.T) {
	t.Parallel()
	s := newShop(t, "", roles)
	s.bind(t, strings.Replace(roles, "spiffe://mesh.local/service/orders, spiffe://mesh.local/service/wallet", "spiffe://mesh.local/service/wallet", 1))
	until(t, "orders has lost its role", func() bool {
		_, err := s.alice.PlaceOrder(s.as(t, "dave"), s.request())
		return err != nil && again(err)
	})
	s.bind(t, roles)
	until(t, "every order is settled", func() bool {
		for _, o := range s.list(t, "", 0) {
			if o.GetState() == ordersv1.Order_STATE_PENDING {
				return false
			}
		}
		return true
	})
}

// bind replaces roles.yaml.
func (s *shop) bind(t *testing.T, roles string) {
	t.Helper()
	if err := os.WriteFile(s.mesh.Roles+".new", []byte(roles), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(s.mesh.Roles+".new", s.mesh.Roles); err != nil {
		t.Fatal(err)
	}
}

func TestNothingIsStoredForAUserWhoMayNotBuy(t *testing.T) {
	t.Parallel()
	s := newShop(t, "", roles)
	req := map[string]*ordersv1.PlaceOrderRequest{"nobody": s.request(), "mallory": s.request()}
	for username, want := range map[string]codes.Code{"nobody": codes.NotFound, "mallory": codes.FailedPrecondition} {
		if _, err := s.alice.PlaceOrder(s.as(t, username), req[username]); status.Code(err) != want {
			t.Errorf("%s: got %v, want %v", username, err, want)
		}
	}
	// The refusal is the outcome of that request, whatever becomes of the user later.
	if _, err := usersv1.NewUsersServiceClient(s.mesh.Client(t, "/operator/bank", s.users)).Create(nodetest.Context(t),
		&usersv1.CreateRequest{User: &usersv1.User{Username: "nobody"}, Password: "correct horse battery"}); err != nil {
		t.Fatalf("create nobody: %v", err)
	}
	if _, err := s.alice.PlaceOrder(s.as(t, "nobody"), req["nobody"]); status.Code(err) != codes.NotFound {
		t.Errorf("the refused request once more: got %v, want NotFound again", err)
	}
	if got := s.list(t, "", 0); len(got) != 0 {
		t.Errorf("stored: %v", got)
	}
}

func TestWhileUsersIsDownNothingIsDecided(t *testing.T) {
	t.Parallel()
	s := newShop(t, "", roles)
	if err := s.users.Stop(); err != nil {
		t.Fatal(err)
	}
	req := s.request()
	_, err := s.alice.PlaceOrder(s.as(t, "dave"), req)
	if status.Code(err) != codes.Unavailable || strings.Contains(fmt.Sprint(err), s.users.Addr) {
		t.Errorf("got %v, want Unavailable, and not a word of users' own", err)
	}
	// Nothing of it was stored: even another payload may have this request_id now.
	req.Item = "another book"
	if _, err := s.alice.PlaceOrder(s.as(t, "dave"), req); status.Code(err) != codes.Unavailable {
		t.Errorf("the request_id with another payload: got %v, want Unavailable", err)
	}
	if got := s.list(t, "", 0); len(got) != 0 {
		t.Errorf("stored: %v", got)
	}
}

func TestACallerThatLeavesDoesNotLoseTheOutcome(t *testing.T) {
	t.Parallel()
	s := newShop(t, "", roles)
	ctx, leave := context.WithCancel(s.as(t, "dave"))
	defer leave()
	left := make(chan struct{})
	s.onTransfer(func(_ context.Context, _ *ledgerv1.TransferRequest, next func() (*ledgerv1.TransferResponse, error)) (*ledgerv1.TransferResponse, error) {
		leave()
		<-left
		return next()
	})
	req := s.request()
	_, err := s.alice.PlaceOrder(ctx, req)
	close(left)
	if status.Code(err) != codes.Canceled {
		t.Errorf("got %v, want Canceled", err)
	}
	if placed := s.insist(t, "dave", req); placed.GetOrder().GetState() != ordersv1.Order_STATE_PAID {
		t.Errorf("the same request later: %v, want PAID", placed)
	}
	s.wantTakings(t, 1)
}
