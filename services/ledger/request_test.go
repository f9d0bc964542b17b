package ledger_test

import (
	"database/sql"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/testing/protocmp"

	ledgerv1 "example.com/rolecall/gen/ledger/v1"
	"example.com/rolecall/internal/node/nodetest"
	"example.com/rolecall/internal/store/storetest"
)

// forget removes all outcomes that are kept for repetitions, as their expiry does.
func forget(t *testing.T, url string) {
	t.Helper()
	driver, table := "sqlite", "rolecall_requests"
	if strings.HasPrefix(url, "postgres") {
		driver, table = "pgx", "ledger.rolecall_requests"
	} else {
		url += "?_pragma=busy_timeout(10000)" // the ledger may be writing
	}
	db, err := sql.Open(driver, url)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close() //nolint:errcheck // the statement's own error is what counts
	gone, err := db.ExecContext(t.Context(), "DELETE FROM "+table)
	if err != nil {
		t.Fatalf("forget: %v", err)
	}
	if n, err := gone.RowsAffected(); n == 0 || err != nil {
		t.Fatalf("forget: %d outcomes were there, %v", n, err)
	}
}

func TestATransferIsFoundByTheRequestThatMadeIt(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, url string) {
		b := newBooks(t, url)
		ctx := nodetest.Context(t)
		own, shop := b.open(t, "/service/orders", 100), b.open(t, "/service/shop", 0)
		orders := b.as(t, "/service/orders")
		req := transfer(own, shop, 30)
		req.RequestId = uuid.NewString()
		by := &ledgerv1.GetTransferRequest{RequestId: req.GetRequestId()}
		if _, err := orders.GetTransfer(ctx, by); status.Code(err) != codes.NotFound {
			t.Errorf("before it was sent: got %v, want NotFound", err)
		}
		made, err := orders.Transfer(ctx, req)
		if err != nil {
			t.Fatalf("transfer: %v", err)
		}
		find := func(when string, by *ledgerv1.GetTransferRequest) {
			read, err := orders.GetTransfer(ctx, by)
			if err != nil {
				t.Fatalf("%s: %v", when, err)
			}
			if diff := cmp.Diff(made.GetTransfer(), read.GetTransfer(), protocmp.Transform()); diff != "" {
				t.Errorf("%s (-answered +read):\n%s", when, diff)
			}
		}
		find("by the request", by)
		find("in upper case", &ledgerv1.GetTransferRequest{RequestId: strings.ToUpper(req.GetRequestId())})
		find("with the signer", &ledgerv1.GetTransferRequest{RequestId: req.GetRequestId(), Signer: "spiffe://mesh.local/service/orders"})
		for name, tc := range map[string]struct {
			caller string
			by     *ledgerv1.GetTransferRequest
		}{
			"by somebody else":                   {"/operator/alice", by},
			"by somebody else, who names signer": {"/operator/alice", &ledgerv1.GetTransferRequest{RequestId: req.GetRequestId(), Signer: "spiffe://mesh.local/service/orders"}},
			"of another signer":                  {"/service/orders", &ledgerv1.GetTransferRequest{RequestId: req.GetRequestId(), Signer: "spiffe://mesh.local/service/shop"}},
			"on behalf of a user":                {"/service/orders", &ledgerv1.GetTransferRequest{RequestId: req.GetRequestId(), User: "user:dave"}},
			"with another request_id":            {"/service/orders", &ledgerv1.GetTransferRequest{RequestId: uuid.NewString()}},
		} {
			if read, err := b.as(t, tc.caller).GetTransfer(ctx, tc.by); status.Code(err) != codes.NotFound {
				t.Errorf("%s: got %v, %v, want NotFound", name, read, err)
			}
		}
		forget(t, url)
		find("when the outcome has expired", by)
		if _, err := orders.Transfer(ctx, req); status.Code(err) != codes.AlreadyExists {
			t.Errorf("the request again when the outcome has expired: got %v, want AlreadyExists", err)
		}
		if got := b.balance(t, own); got != 70 {
			t.Errorf("balance: got %d, want 70", got)
		}
	})
}

func TestACancelledRequestIsRefusedWhenItArrives(t *testing.T) {
	each(t, func(t *testing.T, b *books) {
		ctx := nodetest.Context(t)
		own, shop := b.open(t, "/service/orders", 100), b.open(t, "/service/shop", 0)
		orders := b.hand(t, "/service/orders")
		conn := orders.dial(t, b.service)
		client := ledgerv1.NewLedgerServiceClient(conn)
		req := transfer(own, shop, 30)
		delayed := orders.sign(t, b.service, req)
		for range 2 {
			answer, err := client.CancelTransfer(ctx, &ledgerv1.CancelTransferRequest{RequestId: req.GetRequestId()})
			if err != nil || answer.GetTransfer() != nil {
				t.Fatalf("cancel: %v, %v, want no transfer", answer, err)
			}
		}
		_, err := forward(ctx, conn, delayed)
		if status.Code(err) != codes.FailedPrecondition || nodetest.Reason(err) != "TRANSFER_CANCELLED" {
			t.Errorf("a delayed first attempt after a stored refusal: got %v, want TRANSFER_CANCELLED", err)
		}
		if _, err := forward(ctx, conn, orders.sign(t, b.service, req)); nodetest.Reason(err) != "TRANSFER_CANCELLED" {
			t.Errorf("the next attempt: got %v, want TRANSFER_CANCELLED", err)
		}
		if got := b.balance(t, own); got != 100 {
			t.Errorf("balance: got %d, want 100", got)
		}
	})
}

func TestACancellationThatComesTooLateGetsTheTransfer(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, url string) {
		b := newBooks(t, url)
		ctx := nodetest.Context(t)
		own, shop := b.open(t, "/service/orders", 100), b.open(t, "/service/shop", 0)
		orders := b.as(t, "/service/orders")
		req := transfer(own, shop, 30)
		req.RequestId = uuid.NewString()
		made, err := orders.Transfer(ctx, req)
		if err != nil {
			t.Fatalf("transfer: %v", err)
		}
		cancel := func(when string) {
			answer, err := orders.CancelTransfer(ctx, &ledgerv1.CancelTransferRequest{RequestId: req.GetRequestId()})
			if err != nil {
				t.Fatalf("%s: %v", when, err)
			}
			if diff := cmp.Diff(made.GetTransfer(), answer.GetTransfer(), protocmp.Transform()); diff != "" {
				t.Errorf("%s (-made +answered):\n%s", when, diff)
			}
		}
		cancel("at once")
		// Another's cancellation of a request with this request_id is of another request.
		if answer, err := b.alice.CancelTransfer(ctx, &ledgerv1.CancelTransferRequest{RequestId: req.GetRequestId()}); err != nil || answer.GetTransfer() != nil {
			t.Errorf("by somebody else: %v, %v, want no transfer", answer, err)
		}
		again, err := orders.Transfer(ctx, req)
		if err != nil {
			t.Fatalf("the request again: %v", err)
		}
		if diff := cmp.Diff(made, again, protocmp.Transform()); diff != "" {
			t.Errorf("the request again (-first +again):\n%s", diff)
		}
		forget(t, url)
		cancel("when the outcome has expired")
		// Nothing is stored by it that says otherwise.
		if _, err := orders.Transfer(ctx, req); status.Code(err) != codes.AlreadyExists {
			t.Errorf("the request again when the outcome has expired, and was cancelled: got %v, want AlreadyExists", err)
		}
	})
}

// Whoever cancels while the request arrives learns the truth, whichever of the two comes first.
func TestACancellationAndItsRequestAtOnceAgree(t *testing.T) {
	each(t, func(t *testing.T, b *books) {
		const rounds = 50
		ctx := nodetest.Context(t)
		own, shop := b.open(t, "/service/orders", rounds), b.open(t, "/service/shop", 0)
		orders, again := b.as(t, "/service/orders"), b.as(t, "/service/orders")
		made := 0
		for round := range rounds {
			req := transfer(own, shop, 1)
			req.RequestId = uuid.NewString()
			var cancelled *ledgerv1.CancelTransferResponse
			var refused error
			var wg sync.WaitGroup
			wg.Go(func() {
				for nodetest.Reason(refused) == "REQUEST_IN_PROGRESS" || cancelled == nil && refused == nil {
					cancelled, refused = again.CancelTransfer(ctx, &ledgerv1.CancelTransferRequest{RequestId: req.GetRequestId()})
				}
			})
			answer, err := orders.Transfer(ctx, req)
			wg.Wait()
			switch {
			case refused != nil:
				t.Fatalf("round %d: cancel: %v", round, refused)
			case err == nil:
				made++
				if diff := cmp.Diff(answer.GetTransfer(), cancelled.GetTransfer(), protocmp.Transform()); diff != "" {
					t.Fatalf("round %d: the transfer was made (-made +cancelled):\n%s", round, diff)
				}
			case nodetest.Reason(err) != "TRANSFER_CANCELLED" || cancelled.GetTransfer() != nil:
				t.Fatalf("round %d: transfer: %v, cancel: %v", round, err, cancelled)
			}
		}
		t.Logf("of %d requests %d were made and %d cancelled", rounds, made, rounds-made)
		if got := b.balance(t, shop); got != int64(made) {
			t.Errorf("balance: got %d, want %d", got, made)
		}
	})
}

func TestACancellationOfARefusedRequestLeavesTheRefusal(t *testing.T) {
	t.Parallel()
	b := newBooks(t, "")
	own, shop := b.open(t, "/service/orders", 10), b.open(t, "/service/shop", 0)
	orders := b.as(t, "/service/orders")
	req := transfer(own, shop, 30)
	req.RequestId = uuid.NewString()
	_, first := orders.Transfer(nodetest.Context(t), req)
	if status.Code(first) != codes.FailedPrecondition {
		t.Fatalf("below zero: got %v, want FailedPrecondition", first)
	}
	if answer, err := orders.CancelTransfer(nodetest.Context(t), &ledgerv1.CancelTransferRequest{RequestId: req.GetRequestId()}); err != nil || answer.GetTransfer() != nil {
		t.Errorf("cancel: %v, %v, want no transfer", answer, err)
	}
	if _, second := orders.Transfer(nodetest.Context(t), req); status.Convert(second).Message() != status.Convert(first).Message() {
		t.Errorf("the request again: got %v, want %v", second, first)
	}
}

func TestWhoNamesARequestBadlyIsToldTheField(t *testing.T) {
	t.Parallel()
	b := newBooks(t, "")
	id := uuid.NewString()
	for name, tc := range map[string]struct {
		req   *ledgerv1.CancelTransferRequest
		field string
	}{
		"no request_id":                     {&ledgerv1.CancelTransferRequest{Signer: "spiffe://mesh.local/service/shop"}, "request_id"},
		"a request_id that is no UUID":      {&ledgerv1.CancelTransferRequest{RequestId: "1"}, "request_id"},
		"a request_id in braces":            {&ledgerv1.CancelTransferRequest{RequestId: "{" + id + "}"}, "request_id"},
		"a request_id without dashes":       {&ledgerv1.CancelTransferRequest{RequestId: strings.ReplaceAll(id, "-", "")}, "request_id"},
		"a signer that is no SPIFFE ID":     {&ledgerv1.CancelTransferRequest{RequestId: id, Signer: "shop"}, "signer"},
		"a user who is a workload":          {&ledgerv1.CancelTransferRequest{RequestId: id, User: "spiffe://mesh.local/service/shop"}, "user"},
		"a user without the prefix":         {&ledgerv1.CancelTransferRequest{RequestId: id, User: "dave"}, "user"},
		"a user of more than 2,048 letters": {&ledgerv1.CancelTransferRequest{RequestId: id, User: "user:https://x#" + strings.Repeat("x", 2048)}, "user"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := b.alice.CancelTransfer(nodetest.Context(t), tc.req)
			wantInvalid(t, err, tc.field)
			_, err = b.alice.GetTransfer(nodetest.Context(t), &ledgerv1.GetTransferRequest{
				RequestId: tc.req.GetRequestId(), Signer: tc.req.GetSigner(), User: tc.req.GetUser(),
			})
			wantInvalid(t, err, tc.field)
		})
	}
	_, err := b.alice.GetTransfer(nodetest.Context(t), &ledgerv1.GetTransferRequest{})
	wantInvalid(t, err, "transfer_id")
	_, err = b.alice.GetTransfer(nodetest.Context(t), &ledgerv1.GetTransferRequest{TransferId: id, RequestId: id})
	wantInvalid(t, err, "transfer_id")
	if _, err := b.as(t, "/operator/bob").CancelTransfer(nodetest.Context(t), &ledgerv1.CancelTransferRequest{RequestId: id}); nodetest.Reason(err) != "ROLE_REQUIRED" {
		t.Errorf("a reader: got %v, want ROLE_REQUIRED", err)
	}
}
