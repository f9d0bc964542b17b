package orders_test

import (
	"testing"

	ordersv1 "example.com/rolecall/gen/orders/v1"
	"example.com/rolecall/interceptors/proof"
	"example.com/rolecall/internal/node/nodetest"
)

// Attack: whoever sees a signed payment on its way to orders, and holds ledger.writer, sends it to ledger first. The nonce would
// be used up, the till paid, and the order FAILED.
func TestAnotherHolderOfTheRoleCannotTakeAPaymentFromOrders(t *testing.T) {
	t.Parallel()
	s := newShop(t, "", roles)
	w := s.wallet(t, "/service/wallet")
	signed := w.sign(t, s.walletTransfer())
	_, err := proof.Forward(nodetest.Context(t), s.mesh.Client(t, "/service/eve", s.ledger), signed)
	if nodetest.Reason(err) != "PROOF_INVALID" {
		t.Errorf("eve, who may move money, passes it on: got %v, want PROOF_INVALID", err)
	}
	s.wantTakings(t, 0)
	placed, err := s.alice.PlaceOrder(s.as(t, "dave"), s.signedRequest(signed))
	if err != nil || placed.GetOrder().GetState() != ordersv1.Order_STATE_PAID {
		t.Errorf("got %v, %v, want an order that is PAID", placed, err)
	}
	s.wantTakings(t, 1)
}
