//go:build unix

package e2e_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/google/uuid"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"google.golang.org/grpc"

	ledgerv1 "example.com/rolecall/gen/ledger/v1"
	ordersv1 "example.com/rolecall/gen/orders/v1"
	"example.com/rolecall/interceptors"
	"example.com/rolecall/interceptors/proof"
)

// relayer signs payments and has orders pass them on.
type relayer struct {
	orders ordersv1.OrdersServiceClient
	signer *proof.Signer
	ledger spiffeid.ID
	relay  spiffeid.ID // orders
}

func (m *runningMesh) relayed(t *testing.T, c *caller, opts ...grpc.DialOption) relayer {
	t.Helper()
	c.announced(t)
	return relayer{
		orders: ordersv1.NewOrdersServiceClient(c.dial(t, "orders", opts...)),
		signer: c.proofs.Signer(), ledger: parseID(t, m.service(t, "ledger").ID), relay: parseID(t, m.service(t, "orders").ID),
	}
}

// announced waits until the key server knows the caller's key: others find it there.
func (c *caller) announced(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := c.proofs.Announced(ctx); err != nil {
		t.Fatalf("announce the key: %v", err)
	}
}

// order makes an order that is paid by a transfer which the caller has signed.
func (r relayer) order(from, to string) (*ordersv1.PlaceOrderRequest, error) {
	payment, err := r.signer.Sign(r.ledger, &ledgerv1.TransferRequest{
		FromAccount: from, ToAccount: to, Amount: euro(1), RequestId: uuid.NewString(),
	}, ledgerv1.LedgerService_Transfer_FullMethodName, proof.Via(r.relay))
	return &ordersv1.PlaceOrderRequest{
		Item: "a lamp", Price: euro(1), PayingAccount: from, ReceivingAccount: to, RequestId: uuid.NewString(), Payment: payment,
	}, err
}

// signedOrder is a call of a load: an order on behalf of the user, which must be paid.
func signedOrder(r relayer, user *userSession, from, to string) func(context.Context, ledgerv1.LedgerServiceClient, ...grpc.CallOption) error {
	return func(ctx context.Context, _ ledgerv1.LedgerServiceClient, opts ...grpc.CallOption) error {
		request, err := r.order(from, to)
		if err != nil {
			return err
		}
		answer, err := r.orders.PlaceOrder(interceptors.AsUser(ctx, user.token()), request, opts...)
		if err != nil {
			return err
		}
		if order := answer.GetOrder(); order.GetState() != ordersv1.Order_STATE_PAID {
			return fmt.Errorf("the order is %s: %s", order.GetState(), order.GetFailure())
		}
		return nil
	}
}
