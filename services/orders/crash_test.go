package orders_test

import (
	"context"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	ledgerv1 "example.com/rolecall/gen/ledger/v1"
	ordersv1 "example.com/rolecall/gen/orders/v1"
	"example.com/rolecall/internal/node/nodetest"
	"example.com/rolecall/internal/store/storetest"
)

// calling places an order in the background and returns a channel with the error of the call.
func (s *shop) calling(t *testing.T, req *ordersv1.PlaceOrderRequest) <-chan error {
	t.Helper()
	ctx, client, failed := s.as(t, "dave"), s.alice, make(chan error, 1)
	go func() {
		_, err := client.PlaceOrder(ctx, req)
		failed <- err
	}()
	return failed
}

// kill stops orders in the middle of its calls, cut off from ledger, so that they come to no end. Their leases end with it: they
// are as long as in production, because a shorter one ends on a slow machine while the order is being paid.
func (s *shop) kill(t *testing.T) {
	t.Helper()
	s.service.Begin()
	s.wire.sever()
	if err := s.service.Stop(); err != nil {
		t.Fatalf("kill orders: %v", err)
	}
	s.exec(t, "UPDATE", "rolecall_requests", "SET lease_us = 0 WHERE state = 'RUNNING'")
}

// settled waits until no order is PENDING, and returns the only one.
func (s *shop) settled(t *testing.T) (only *ordersv1.Order) {
	t.Helper()
	until(t, "the order is settled", func() bool {
		stored := s.list(t, "", 0)
		if len(stored) != 1 {
			t.Fatalf("stored: %v, want one order", stored)
		}
		only = stored[0]
		return only.GetState() != ordersv1.Order_STATE_PENDING
	})
	return only
}

func (s *shop) wantSettled(t *testing.T, req *ordersv1.PlaceOrderRequest, want ordersv1.Order_State) *ordersv1.PlaceOrderResponse {
	t.Helper()
	order := s.settled(t)
	if order.GetState() != want || want == ordersv1.Order_STATE_FAILED && !strings.HasPrefix(order.GetFailure(), "the payment was cancelled: ") {
		t.Errorf("the order became %v, want %v", order, want)
	}
	placed := s.insist(t, "dave", req)
	if placed.GetOrder().GetOrderId() != order.GetOrderId() || placed.GetOrder().GetState() != want {
		t.Errorf("the same request is answered with %v, want %v", placed.GetOrder(), order)
	}
	paid := int64(0)
	if want == ordersv1.Order_STATE_PAID {
		paid = 1
	}
	s.wantTakings(t, paid)
	return placed
}

func TestACrashBeforeThePaymentLeavesAFailedOrder(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, url string) {
		s := newShop(t, url, roles)
		s.wire.sever()
		req := s.request()
		failed := s.calling(t, req)
		until(t, "the order is stored", func() bool { return len(s.list(t, "", 0)) == 1 })
		s.kill(t)
		if err := <-failed; err == nil {
			t.Error("a killed service has answered")
		}
		s.wire.mend()
		s.start(t)
		s.wantSettled(t, req, ordersv1.Order_STATE_FAILED)
	})
}

// Attack of the table: crash between effect and store.
func TestACrashBetweenEffectAndStoreLeavesAPaidOrder(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, url string) {
		s := newShop(t, url, roles)
		s.onTransfer(func(_ context.Context, _ *ledgerv1.TransferRequest, next func() (*ledgerv1.TransferResponse, error)) (*ledgerv1.TransferResponse, error) {
			s.wire.swallow()
			return next()
		})
		req := s.request()
		failed := s.calling(t, req)
		until(t, "ledger has paid", func() bool { return s.takings(t) == 1 })
		s.kill(t)
		if err := <-failed; err == nil {
			t.Error("a killed service has answered")
		}
		s.transfer.Store(nil)
		s.wire.mend()
		s.start(t)
		s.wantSettled(t, req, ordersv1.Order_STATE_PAID)
	})
}

func TestALostAnswerOfLedgerIsAskedForAgain(t *testing.T) {
	t.Parallel()
	s := newShop(t, "", roles)
	s.onTransfer(func(_ context.Context, _ *ledgerv1.TransferRequest, next func() (*ledgerv1.TransferResponse, error)) (*ledgerv1.TransferResponse, error) {
		s.wire.swallow()
		return next()
	})
	req := s.request()
	failed := s.calling(t, req)
	until(t, "ledger has paid", func() bool { return s.takings(t) == 1 })
	s.transfer.Store(nil)
	s.wire.mend() // breaks the connection that swallows
	if err := <-failed; err != nil && !again(err) {
		t.Errorf("got %v, want the outcome, or to be told to try again", err)
	}
	s.wantSettled(t, req, ordersv1.Order_STATE_PAID)
}

func TestAnOrderWaitsForALedgerThatIsDown(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, url string) {
		s := newShop(t, url, roles)
		s.wire.sever()
		req := s.request()
		if _, err := s.alice.PlaceOrder(s.as(t, "dave"), req); !again(err) {
			t.Fatalf("got %v, want to be told to try again", err)
		}
		if _, err := s.alice.PlaceOrder(s.as(t, "dave"), req); status.Code(err) != codes.Aborted || nodetest.Reason(err) != "REQUEST_IN_PROGRESS" {
			t.Errorf("the same request meanwhile: got %v, want REQUEST_IN_PROGRESS", err)
		}
		if stored := s.list(t, "", 0); len(stored) != 1 || stored[0].GetState() != ordersv1.Order_STATE_PENDING {
			t.Errorf("stored: %v, want one order that is PENDING", stored)
		}
		s.wire.mend()
		s.wantSettled(t, req, ordersv1.Order_STATE_FAILED)
	})
}
