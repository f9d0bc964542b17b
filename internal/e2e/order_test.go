//go:build unix

package e2e_test

import (
	"context"
	"testing"

	ledgerv1 "example.com/rolecall/gen/ledger/v1"
	ordersv1 "example.com/rolecall/gen/orders/v1"
	"example.com/rolecall/interceptors"
)

func TestAnOrderIsPaidAcrossThreeServices(t *testing.T) {
	t.Parallel()
	running := sharedMesh(t)
	alice := running.caller(t, "alice")
	ledger := alice.ledger(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	dora := running.newUser(t, "orders.customer")
	payer, shop := purse(t, alice, dora)
	behalf := interceptors.AsUser(ctx, alice.login(t, dora).GetAccessToken())
	placed, err := alice.orders(t).PlaceOrder(behalf, &ordersv1.PlaceOrderRequest{
		Item: "a lamp", Price: euro(4200), PayingAccount: payer, ReceivingAccount: shop,
	})
	if err != nil {
		t.Fatalf("place an order: %v", err)
	}
	if order := placed.GetOrder(); order.GetState() != ordersv1.Order_STATE_PAID || order.GetUsername() != dora.Username {
		t.Fatalf("the order is %v, want STATE_PAID of %s", order, dora.Username)
	}
	for account, want := range map[string]int64{payer: -4200, shop: 4200} {
		balance, err := ledger.GetBalance(ctx, &ledgerv1.GetBalanceRequest{AccountId: account})
		if err != nil || balance.GetBalance().GetMinorUnits() != want {
			t.Errorf("balance of %s: %v, %v, want %d", account, balance, err, want)
		}
	}
	moved, err := ledger.GetTransfer(ctx, &ledgerv1.GetTransferRequest{TransferId: placed.GetOrder().GetTransferId()})
	if err != nil {
		t.Fatalf("get the transfer of the order: %v", err)
	}
	// The ledger saw who really called it: not alice, the service that she had called.
	if got, want := moved.GetTransfer().GetCaller(), running.service(t, "orders").ID; got != want {
		t.Errorf("the transfer was made by %s, want %s", got, want)
	}
	t.Run("and not out of an account of another user", func(t *testing.T) {
		theirs, _ := purse(t, alice, running.newUser(t, "orders.customer"))
		placed, err := alice.orders(t).PlaceOrder(behalf, &ordersv1.PlaceOrderRequest{
			Item: "a lamp", Price: euro(4200), PayingAccount: theirs, ReceivingAccount: shop,
		})
		if err != nil || placed.GetOrder().GetState() != ordersv1.Order_STATE_FAILED {
			t.Errorf("%v, %v, want STATE_FAILED", placed, err)
		}
	})
}
