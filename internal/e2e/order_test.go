//go:build unix

package e2e_test

import (
	"context"
	"testing"

	ledgerv1 "example.com/rolecall/gen/ledger/v1"
	ordersv1 "example.com/rolecall/gen/orders/v1"
	usersv1 "example.com/rolecall/gen/users/v1"
)

func TestAnOrderIsPaidAcrossThreeServices(t *testing.T) {
	t.Parallel()
	running := sharedMesh(t)
	alice := running.caller(t, "alice")
	ledger := alice.ledger(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := usersv1.NewUsersServiceClient(alice.dial(t, "users")).Create(ctx, &usersv1.CreateRequest{User: &usersv1.User{Username: "dora", DisplayName: "Dora"}}); err != nil {
		t.Fatalf("create a user: %v", err)
	}
	payer, shop := openAccounts(t, ledger, running.service(t, "orders").ID)
	orders := ordersv1.NewOrdersServiceClient(alice.dial(t, "orders"))
	placed, err := orders.PlaceOrder(ctx, &ordersv1.PlaceOrderRequest{
		Username: "dora", Item: "a lamp", Price: euro(4200), PayingAccount: payer, ReceivingAccount: shop,
	})
	if err != nil {
		t.Fatalf("place an order: %v", err)
	}
	if placed.GetOrder().GetState() != ordersv1.Order_STATE_PAID {
		t.Fatalf("the order is %v, want STATE_PAID", placed.GetOrder())
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
}
