package ledger_test

import (
	"errors"
	"io"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	ledgerv1 "example.com/rolecall/gen/ledger/v1"
	"example.com/rolecall/internal/node/nodetest"
)

// send imports the transfers and returns what the ledger answered.
func send(t *testing.T, client ledgerv1.LedgerServiceClient, moves ...*ledgerv1.TransferRequest) (int64, error) {
	t.Helper()
	stream, err := client.ImportEntries(nodetest.Context(t))
	if err != nil {
		t.Fatalf("import: %v", err)
	}
	for _, m := range moves {
		err := stream.Send(&ledgerv1.ImportEntriesRequest{
			FromAccount: m.GetFromAccount(), ToAccount: m.GetToAccount(), Amount: m.GetAmount(), Note: m.GetNote(),
		})
		if errors.Is(err, io.EOF) {
			break // the ledger has answered already
		}
		if err != nil {
			t.Fatalf("import: %v", err)
		}
	}
	answer, err := stream.CloseAndRecv()
	return answer.GetImported(), err
}

func TestAnImportMakesAllTransfersInOrder(t *testing.T) {
	each(t, func(t *testing.T, b *books) {
		source, first, second := b.source(t), b.open(t, "/service/orders", 0), b.open(t, "/service/shop", 0)
		// The second can only be paid after the first, by an account that the caller does not own.
		moves := []*ledgerv1.TransferRequest{transfer(source, first, 10), transfer(first, second, 10)}
		for range 1200 {
			moves = append(moves, transfer(source, second, 1))
		}
		n, err := send(t, b.alice, moves...)
		if err != nil || n != int64(len(moves)) {
			t.Fatalf("import: %d, %v, want %d", n, err, len(moves))
		}
		if got := [3]int64{b.balance(t, source), b.balance(t, first), b.balance(t, second)}; got != [3]int64{-1210, 0, 1210} {
			t.Errorf("balances: got %v, want [-1210 0 1210]", got)
		}
		if got := len(b.entries(t, second, 1000)); got != 1201 {
			t.Errorf("the receiving account has %d entries, want 1201", got)
		}
	})
}

func TestAnImportWithOneBadTransferMakesNone(t *testing.T) {
	each(t, func(t *testing.T, b *books) {
		source, account := b.source(t), b.open(t, "/service/orders", 0)
		for name, tc := range map[string]struct {
			bad  *ledgerv1.TransferRequest
			want codes.Code
			says string
		}{
			"below zero":      {transfer(account, source, 100), codes.FailedPrecondition, "transfer 3 of 4"},
			"no such account": {transfer(source, "nowhere", 1), codes.NotFound, "transfer 3 of 4"},
			"a bad amount":    {transfer(source, account, -1), codes.InvalidArgument, "transfers[2].amount.minor_units"},
		} {
			_, err := send(t, b.alice, transfer(source, account, 1), transfer(source, account, 2), tc.bad, transfer(source, account, 3))
			if status.Code(err) != tc.want || !strings.Contains(status.Convert(err).Proto().String(), tc.says) {
				t.Errorf("%s: got %v, want %v that says %q", name, err, tc.want, tc.says)
			}
			if got := len(b.entries(t, account, 0)); got != 0 || b.balance(t, source) != 0 {
				t.Fatalf("%s: the import left %d entries", name, got)
			}
		}
	})
}

func TestAnImportBeyondItsBoundIsRefused(t *testing.T) {
	t.Parallel()
	b := newBooks(t, "")
	source, account := b.source(t), b.open(t, "/service/orders", 0)
	moves := make([]*ledgerv1.TransferRequest, 10_001)
	for i := range moves {
		moves[i] = transfer(source, account, 1)
	}
	if _, err := send(t, b.alice, moves...); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("10,001 transfers: got %v, want ResourceExhausted", err)
	}
	if got := b.balance(t, account); got != 0 {
		t.Errorf("the refused import left a balance of %d", got)
	}
}

func TestAnImportNeedsBothRoles(t *testing.T) {
	t.Parallel()
	b := newBooks(t, "")
	if _, err := send(t, b.as(t, "/service/orders")); status.Code(err) != codes.PermissionDenied {
		t.Errorf("a writer who is no admin: got %v, want PermissionDenied", err)
	}
	if n, err := send(t, b.alice); err != nil || n != 0 {
		t.Errorf("an empty import of an admin: %d, %v, want 0", n, err)
	}
}
