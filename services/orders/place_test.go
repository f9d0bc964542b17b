package orders_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	ledgerv1 "example.com/rolecall/gen/ledger/v1"
	ordersv1 "example.com/rolecall/gen/orders/v1"
	"example.com/rolecall/internal/node/nodetest"
	"example.com/rolecall/internal/store/storetest"
)

func TestAnOrderIsPaidAndStored(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, url string) {
		asked := make(chan *ledgerv1.TransferRequest, 1)
		s := newShop(t, url, roles, func(req *ledgerv1.TransferRequest) (*ledgerv1.TransferResponse, error) {
			asked <- req
			return paid(req)
		})
		placed, err := s.alice.PlaceOrder(s.as(t, "dave"), request())
		if err != nil {
			t.Fatalf("place order: %v", err)
		}
		want := &ordersv1.Order{
			OrderId: placed.GetOrder().GetOrderId(), Username: "dave", Item: "a book", Price: request().GetPrice(),
			PayingAccount: "account-1", ReceivingAccount: "account-2",
			State: ordersv1.Order_STATE_PAID, TransferId: "transfer-1", CreateTime: placed.GetOrder().GetCreateTime(),
		}
		if diff := cmp.Diff(want, placed.GetOrder(), protocmp.Transform()); diff != "" {
			t.Errorf("placed (-want +got):\n%s", diff)
		}
		wantTransfer := &ledgerv1.TransferRequest{
			FromAccount: "account-1", ToAccount: "account-2", Amount: request().GetPrice(), Note: "order " + want.GetOrderId(),
		}
		if diff := cmp.Diff(wantTransfer, <-asked, protocmp.Transform()); diff != "" {
			t.Errorf("asked of ledger (-want +got):\n%s", diff)
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
	for name, tc := range map[string]struct {
		ledger error
		code   codes.Code
		state  ordersv1.Order_State
	}{
		"refused: too little money":   {status.Error(codes.FailedPrecondition, "below zero \xff"), codes.OK, ordersv1.Order_STATE_FAILED},
		"refused: no such account":    {status.Error(codes.NotFound, "no account"), codes.OK, ordersv1.Order_STATE_FAILED},
		"refused: not its account":    {status.Error(codes.PermissionDenied, "not owned"), codes.OK, ordersv1.Order_STATE_FAILED},
		"unknown: ledger went away":   {status.Error(codes.Unavailable, "gone"), codes.Unknown, ordersv1.Order_STATE_PENDING},
		"unknown: ledger broke":       {status.Error(codes.Internal, "broken"), codes.Unknown, ordersv1.Order_STATE_PENDING},
		"unknown: commit unknown":     {status.Error(codes.Unknown, "who knows"), codes.Unknown, ordersv1.Order_STATE_PENDING},
		"unknown: the time was over":  {status.Error(codes.DeadlineExceeded, "late"), codes.DeadlineExceeded, ordersv1.Order_STATE_PENDING},
		"unknown: ledger was aborted": {status.Error(codes.Aborted, "again"), codes.Unknown, ordersv1.Order_STATE_PENDING},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newShop(t, "", roles, func(*ledgerv1.TransferRequest) (*ledgerv1.TransferResponse, error) { return nil, tc.ledger })
			answer, err := s.alice.PlaceOrder(s.as(t, "dave"), request())
			if status.Code(err) != tc.code {
				t.Errorf("got %v, want %v", err, tc.code)
			}
			stored := s.list(t, "", 0)
			if len(stored) != 1 || stored[0].GetState() != tc.state {
				t.Fatalf("stored: %v, want one order in %v", stored, tc.state)
			}
			if (stored[0].GetFailure() != "") != (tc.state == ordersv1.Order_STATE_FAILED) {
				t.Errorf("%v has the failure %q", tc.state, stored[0].GetFailure())
			}
			if err == nil && !proto.Equal(answer.GetOrder(), stored[0]) {
				t.Errorf("answered %v, stored %v", answer.GetOrder(), stored[0])
			}
			if err != nil && !strings.Contains(err.Error(), stored[0].GetOrderId()+" stays PENDING") {
				t.Errorf("the error does not name the order %s that stays PENDING: %v", stored[0].GetOrderId(), err)
			}
		})
	}
}

func TestAnOrderWithoutTheRoleOfItsOwnServiceFails(t *testing.T) {
	t.Parallel()
	s := newShop(t, "", strings.Replace(roles, "role: ledger.writer", "role: ledger.reader", 1), paid)
	answer, err := s.alice.PlaceOrder(s.as(t, "dave"), request())
	if err != nil || answer.GetOrder().GetState() != ordersv1.Order_STATE_FAILED || !strings.Contains(answer.GetOrder().GetFailure(), "lacks a role") {
		t.Errorf("got %v, %v, want a FAILED order that says why", answer, err)
	}
}

func TestNothingIsStoredForAUserWhoMayNotBuy(t *testing.T) {
	t.Parallel()
	s := newShop(t, "", roles, paid)
	for username, want := range map[string]codes.Code{
		"nobody": codes.NotFound, "mallory": codes.FailedPrecondition, "late": codes.Unavailable,
	} {
		_, err := s.alice.PlaceOrder(s.as(t, username), request())
		if status.Code(err) != want || strings.Contains(fmt.Sprint(err), "secret") {
			t.Errorf("%s: got %v, want %v without a word of users' own", username, err, want)
		}
	}
	if got := s.list(t, "", 0); len(got) != 0 {
		t.Errorf("stored: %v", got)
	}
}

func TestACallerThatLeavesDoesNotLoseTheOutcome(t *testing.T) {
	t.Parallel()
	left, leave := make(chan struct{}), func() {}
	s := newShop(t, "", roles, func(req *ledgerv1.TransferRequest) (*ledgerv1.TransferResponse, error) {
		leave()
		<-left
		return paid(req)
	})
	ctx, cancel := context.WithCancel(s.as(t, "dave"))
	defer cancel()
	leave = cancel
	_, err := s.alice.PlaceOrder(ctx, request())
	close(left)
	if status.Code(err) != codes.Canceled {
		t.Errorf("got %v, want Canceled", err)
	}
	began := time.Now()
	for {
		stored := s.list(t, "", 0)
		if len(stored) == 1 && stored[0].GetState() == ordersv1.Order_STATE_PAID {
			t.Logf("PAID after %s", time.Since(began))
			return
		}
		if time.Since(began) > nodetest.Patience {
			t.Fatalf("stored: %v, want one order that is PAID", stored)
		}
	}
}
