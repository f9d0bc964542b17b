package ledger_test

import (
	"context"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/testing/protocmp"

	ledgerv1 "example.com/rolecall/gen/ledger/v1"
	"example.com/rolecall/internal/node/nodetest"
)

func TestARepeatedTransferIsAnsweredByTheSameBytes(t *testing.T) {
	each(t, func(t *testing.T, b *books) {
		ctx := nodetest.Context(t)
		own, shop := b.open(t, "/service/orders", 100), b.open(t, "/service/shop", 0)
		orders := b.hand(t, "/service/orders")
		conn := orders.dial(t, b.service)
		req := transfer(own, shop, 30)
		first, err := forward(ctx, conn, orders.sign(t, b.service, req))
		if err != nil {
			t.Fatalf("transfer: %v", err)
		}
		second, err := forward(ctx, conn, orders.sign(t, b.service, req)) // with another proof
		if err != nil {
			t.Fatalf("the same transfer again: %v", err)
		}
		if first != second || first == "" {
			t.Errorf("the repetition was answered\n%x, the first one\n%x", second, first)
		}
		if got := b.balance(t, own); got != 70 {
			t.Errorf("balance: got %d, want 70", got)
		}
		other := transfer(own, shop, 31)
		other.RequestId = req.GetRequestId()
		if _, err := forward(ctx, conn, orders.sign(t, b.service, other)); nodetest.Reason(err) != "REQUEST_ID_REUSED" {
			t.Errorf("the same request_id with another amount: got %v, want REQUEST_ID_REUSED", err)
		}
	})
}

func TestTheSameProofTwiceMovesMoneyOnce(t *testing.T) {
	each(t, func(t *testing.T, b *books) {
		own, shop := b.open(t, "/service/orders", 100), b.open(t, "/service/shop", 0)
		orders := b.hand(t, "/service/orders")
		conn := orders.dial(t, b.service)
		signed := orders.sign(t, b.service, transfer(own, shop, 30))
		if _, err := forward(nodetest.Context(t), conn, signed); err != nil {
			t.Fatalf("transfer: %v", err)
		}
		if _, err := forward(nodetest.Context(t), conn, signed); nodetest.Reason(err) != "PROOF_REPLAYED" {
			t.Errorf("again: got %v, want PROOF_REPLAYED", err)
		}
		if got := b.balance(t, own); got != 70 {
			t.Errorf("balance: got %d, want 70", got)
		}
	})
}

func TestARefusedTransferIsRefusedAgainEvenIfItWouldBeMadeNow(t *testing.T) {
	each(t, func(t *testing.T, b *books) {
		ctx := nodetest.Context(t)
		own, shop := b.open(t, "/service/orders", 10), b.open(t, "/service/shop", 0)
		orders := b.as(t, "/service/orders")
		req := transfer(own, shop, 30)
		req.RequestId = uuid.NewString()
		_, first := orders.Transfer(ctx, req)
		if status.Code(first) != codes.FailedPrecondition {
			t.Fatalf("below zero: got %v, want FailedPrecondition", first)
		}
		if _, err := b.alice.Transfer(ctx, transfer(b.source(t), own, 100)); err != nil {
			t.Fatal(err)
		}
		_, second := orders.Transfer(ctx, req)
		if diff := cmp.Diff(status.Convert(first).Proto(), status.Convert(second).Proto(), protocmp.Transform()); diff != "" {
			t.Errorf("the repetition is refused otherwise (-first +second):\n%s", diff)
		}
		req.RequestId = uuid.NewString()
		if _, err := orders.Transfer(ctx, req); err != nil {
			t.Errorf("with another request_id: %v", err)
		}
		if got := b.balance(t, own); got != 80 {
			t.Errorf("balance: got %d, want 80", got)
		}
	})
}

// What depends on policy is not kept: the next attempt may be allowed.
func TestARefusalForTheOwnerIsNotKept(t *testing.T) {
	t.Parallel()
	b := newBooks(t, "")
	account, shop := b.open(t, "/service/shop", 100), b.open(t, "/service/shop", 0)
	req := transfer(account, shop, 1)
	req.RequestId = uuid.NewString()
	orders := b.as(t, "/service/orders")
	for range 2 {
		if _, err := orders.Transfer(nodetest.Context(t), req); nodetest.Reason(err) != "ACCOUNT_NOT_OWNED" {
			t.Errorf("from a foreign account: got %v, want ACCOUNT_NOT_OWNED", err)
		}
	}
	cancelled, err := orders.CancelTransfer(nodetest.Context(t), &ledgerv1.CancelTransferRequest{RequestId: req.GetRequestId()})
	if err != nil || cancelled.GetTransfer() != nil {
		t.Errorf("cancel: %v, %v", cancelled, err)
	}
	if _, err := orders.Transfer(nodetest.Context(t), req); nodetest.Reason(err) != "TRANSFER_CANCELLED" {
		t.Errorf("after the cancellation: got %v, want TRANSFER_CANCELLED: no refusal had been kept before", err)
	}
}

func TestAHundredRepetitionsInParallelMoveTheMoneyOnce(t *testing.T) {
	each(t, func(t *testing.T, b *books) {
		const repetitions = 100
		own, shop := b.open(t, "/service/orders", 1000), b.open(t, "/service/shop", 0)
		clients := make([]ledgerv1.LedgerServiceClient, 8)
		for i := range clients {
			clients[i] = b.as(t, "/service/orders")
		}
		req := transfer(own, shop, 30)
		req.RequestId = uuid.NewString()
		var mu sync.Mutex
		var answers []*ledgerv1.TransferResponse
		verdicts := map[string]int{}
		var wg sync.WaitGroup
		for i := range repetitions {
			wg.Go(func() {
				answer, err := clients[i%len(clients)].Transfer(nodetest.Context(t), req)
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					answers = append(answers, answer)
				}
				verdicts[status.Code(err).String()+" "+nodetest.Reason(err)]++
				if err != nil && nodetest.Reason(err) != "REQUEST_IN_PROGRESS" {
					t.Errorf("transfer: %v", err)
				}
			})
		}
		wg.Wait()
		t.Logf("of %d repetitions: %v", repetitions, verdicts)
		if len(answers) == 0 {
			t.Fatal("none was answered")
		}
		for _, answer := range answers[1:] {
			if diff := cmp.Diff(answers[0], answer, protocmp.Transform()); diff != "" {
				t.Fatalf("two answers (-one +another):\n%s", diff)
			}
		}
		if got := [2]int64{b.balance(t, own), b.balance(t, shop)}; got != [2]int64{970, 30} {
			t.Errorf("balances: got %v, want [970 30]", got)
		}
		if got := len(b.entries(t, shop, 0)); got != 1 {
			t.Errorf("the receiving account has %d entries, want 1", got)
		}
	})
}

// Attack: the same request_id by another caller, and for another user: nobody gets at the answer of another, or in its way.
func TestTheSameRequestIDOfAnotherCallerOrUserIsAnotherRequest(t *testing.T) {
	t.Parallel()
	k := newBank(t, "")
	sink := k.account(t, "spiffe://mesh.local/service/sink", 0)
	id := uuid.NewString()
	seen := map[string]string{}
	for _, tc := range []struct {
		name, owner string
		client      ledgerv1.LedgerServiceClient
		ctx         context.Context
	}{
		{"orders", "spiffe://mesh.local/service/orders", k.orders, nodetest.Context(t)},
		{"shop", "spiffe://mesh.local/service/shop", k.as(t, "/service/shop"), nodetest.Context(t)},
		{"orders on behalf of dave", "user:dave", k.orders, k.dave(t)},
		{"orders on behalf of a company's dave", "user:" + k.company.Issuer.URL + "#dave", k.orders, k.stranger(t)},
	} {
		req := transfer(k.account(t, tc.owner, 10), sink, 1)
		req.RequestId = id
		made, err := tc.client.Transfer(tc.ctx, req)
		if err != nil {
			t.Fatalf("%s: %v", tc.name, err)
		}
		if other, twice := seen[made.GetTransfer().GetTransferId()]; twice {
			t.Errorf("%s got the transfer of %s", tc.name, other)
		}
		seen[made.GetTransfer().GetTransferId()] = tc.name
		again, err := tc.client.Transfer(tc.ctx, req)
		if diff := cmp.Diff(made, again, protocmp.Transform()); diff != "" || err != nil {
			t.Errorf("%s again: %v (-first +again):\n%s", tc.name, err, diff)
		}
	}
	if got := k.balance(t, sink); got != 4 {
		t.Errorf("balance: got %d, want 4", got)
	}
}

func TestARepeatedOpenAccountOpensOne(t *testing.T) {
	each(t, func(t *testing.T, b *books) {
		req := &ledgerv1.OpenAccountRequest{Currency: "EUR", RequestId: uuid.NewString()}
		first, second := b.openWith(t, req), b.openWith(t, req)
		if first != second {
			t.Errorf("got the accounts %s and %s, want one", first, second)
		}
		req.RequestId = uuid.NewString()
		if third := b.openWith(t, req); third == first {
			t.Error("another request_id got the same account")
		}
	})
}
