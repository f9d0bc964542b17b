package ledger_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/testing/protocmp"

	ledgerv1 "example.com/rolecall/gen/ledger/v1"
	"example.com/rolecall/internal/node/nodetest"
)

func TestATransferMakesTwoEntriesThatAddUpToZero(t *testing.T) {
	each(t, func(t *testing.T, b *books) {
		ctx := nodetest.Context(t)
		from, to := b.open(t, "/service/orders", 1000), b.open(t, "/service/shop", 0)
		req := transfer(from, to, 250)
		req.Note = "a book – 2 €"
		made, err := b.as(t, "/service/orders").Transfer(ctx, req)
		if err != nil {
			t.Fatalf("transfer: %v", err)
		}
		want := &ledgerv1.TransferRecord{
			FromAccount: from, ToAccount: to, Amount: eur(250), Note: req.GetNote(),
			Caller: "spiffe://mesh.local/service/orders", Signer: "spiffe://mesh.local/service/orders",
		}
		ignore := protocmp.IgnoreFields(&ledgerv1.TransferRecord{}, "transfer_id", "create_time")
		if diff := cmp.Diff(want, made.GetTransfer(), protocmp.Transform(), ignore); diff != "" {
			t.Errorf("transfer (-want +got):\n%s", diff)
		}
		read, err := b.alice.GetTransfer(ctx, &ledgerv1.GetTransferRequest{TransferId: made.GetTransfer().GetTransferId()})
		if err != nil {
			t.Fatalf("get transfer: %v", err)
		}
		if diff := cmp.Diff(made.GetTransfer(), read.GetTransfer(), protocmp.Transform()); diff != "" {
			t.Errorf("what was answered and what is read differ (-answered +read):\n%s", diff)
		}
		var got []*ledgerv1.Entry
		for _, account := range []string{from, to} {
			entries := b.entries(t, account, 0)
			got = append(got, entries[len(entries)-1])
		}
		id := made.GetTransfer().GetTransferId()
		wantEntries := []*ledgerv1.Entry{
			{TransferId: id, AccountId: from, Amount: eur(-250), Balance: eur(750), CreateTime: made.GetTransfer().GetCreateTime()},
			{TransferId: id, AccountId: to, Amount: eur(250), Balance: eur(250), CreateTime: made.GetTransfer().GetCreateTime()},
		}
		if diff := cmp.Diff(wantEntries, got, protocmp.Transform(), protocmp.IgnoreFields(&ledgerv1.Entry{}, "entry_id")); diff != "" {
			t.Errorf("entries (-want +got):\n%s", diff)
		}
		if got := [2]int64{b.balance(t, from), b.balance(t, to)}; got != [2]int64{750, 250} {
			t.Errorf("balances: got %v, want [750 250]", got)
		}
	})
}

func TestWhatTheBooksRefuse(t *testing.T) {
	each(t, func(t *testing.T, b *books) {
		full, other, source := b.open(t, "/service/orders", 100), b.open(t, "/service/shop", 100), b.source(t)
		dollars := b.openWith(t, &ledgerv1.OpenAccountRequest{Currency: "USD"})
		deep, rich := b.source(t), b.source(t)
		if _, err := b.alice.Transfer(nodetest.Context(t), transfer(deep, rich, math.MaxInt64)); err != nil {
			t.Fatalf("the largest transfer: %v", err)
		}
		usd := transfer(full, other, 1)
		usd.Amount.Currency = "USD"
		for name, tc := range map[string]struct {
			caller string
			req    *ledgerv1.TransferRequest
			want   codes.Code
		}{
			"more than there is":                     {"/service/orders", transfer(full, other, 101), codes.FailedPrecondition},
			"an account of another workload":         {"/service/orders", transfer(other, full, 1), codes.PermissionDenied},
			"an account of the administrator":        {"/service/orders", transfer(source, full, 1), codes.PermissionDenied},
			"a paying account that is not there":     {"/service/orders", transfer("nowhere", full, 1), codes.NotFound},
			"a receiving account that is not there":  {"/service/orders", transfer(full, "nowhere", 1), codes.NotFound},
			"a receiving account in other money":     {"/service/orders", transfer(full, dollars, 1), codes.FailedPrecondition},
			"an amount in other money":               {"/service/orders", usd, codes.FailedPrecondition},
			"a balance over the largest integer":     {"/operator/alice", transfer(source, rich, 1), codes.OutOfRange},
			"a balance under the smallest integer":   {"/operator/alice", transfer(deep, full, 2), codes.OutOfRange},
			"a transfer by a reader":                 {"/operator/bob", transfer(full, other, 1), codes.PermissionDenied},
			"a transfer by someone without any role": {"/operator/carol", transfer(full, other, 1), codes.PermissionDenied},
		} {
			_, err := b.as(t, tc.caller).Transfer(nodetest.Context(t), tc.req)
			if status.Code(err) != tc.want {
				t.Errorf("%s: got %v, want %v", name, err, tc.want)
			}
		}
		if got := [2]int64{b.balance(t, full), b.balance(t, other)}; got != [2]int64{100, 100} {
			t.Errorf("a refused transfer moved money: balances %v, want [100 100]", got)
		}
	})
}

func TestPayingFromAForeignAccountIsToldFromALackingRole(t *testing.T) {
	t.Parallel()
	b := newBooks(t, "")
	foreign, own := b.open(t, "/service/shop", 10), b.open(t, "/service/orders", 0)
	for path, want := range map[string]string{"/service/orders": "ACCOUNT_NOT_OWNED", "/operator/bob": "ROLE_REQUIRED"} {
		_, err := b.as(t, path).Transfer(nodetest.Context(t), transfer(foreign, own, 1))
		var got string
		for _, detail := range status.Convert(err).Details() {
			if info, ok := detail.(*errdetails.ErrorInfo); ok {
				got = info.GetDomain() + " " + info.GetReason()
			}
		}
		if got != "rolecall "+want {
			t.Errorf("%s: got %q (%v), want rolecall %s", path, got, err, want)
		}
	}
}

// Eight workers move random amounts between a few accounts at once. Whatever order they come in, no account is ever below
// zero, no money comes or goes, and each account's entries tell its story without a gap.
func TestConcurrentTransfersKeepTheBooksBalanced(t *testing.T) {
	each(t, func(t *testing.T, b *books) {
		const workers, rounds, accounts, each = 8, 25, 4, 100
		orders := b.as(t, "/service/orders")
		var ids []string
		for range accounts {
			ids = append(ids, b.open(t, "/service/orders", each))
		}
		var mu sync.Mutex
		verdicts := map[codes.Code]int{}
		var wg sync.WaitGroup
		for worker := range workers {
			wg.Go(func() {
				random := rand.New(rand.NewPCG(uint64(worker), 7))
				for range rounds {
					order := random.Perm(accounts)
					_, err := orders.Transfer(nodetest.Context(t), transfer(ids[order[0]], ids[order[1]], 1+random.Int64N(120)))
					mu.Lock()
					verdicts[status.Code(err)]++
					mu.Unlock()
					if code := status.Code(err); code != codes.OK && code != codes.FailedPrecondition {
						t.Errorf("transfer: %v", err)
					}
				}
			})
		}
		wg.Wait()
		t.Logf("verdicts: %v", verdicts)
		if verdicts[codes.OK] == 0 || verdicts[codes.FailedPrecondition] == 0 {
			t.Errorf("verdicts %v: the test wants both transfers that are made and some that are refused", verdicts)
		}
		var total int64
		sums := map[string]int64{}
		for _, id := range ids {
			var running int64
			for i, e := range b.entries(t, id, 50) {
				running += e.GetAmount().GetMinorUnits()
				sums[e.GetTransferId()] += e.GetAmount().GetMinorUnits()
				if e.GetBalance().GetMinorUnits() != running || running < 0 {
					t.Fatalf("entry %d of %s: balance %d after a sum of %d", i, id, e.GetBalance().GetMinorUnits(), running)
				}
				if want := fmt.Sprintf("%s.%d", id, i+1); e.GetEntryId() != want {
					t.Fatalf("entry %d is %s, want %s", i, e.GetEntryId(), want)
				}
			}
			if got := b.balance(t, id); got != running {
				t.Errorf("balance of %s is %d, its entries add up to %d", id, got, running)
			}
			total += running
		}
		if total != accounts*each {
			t.Errorf("the accounts hold %d together, want %d", total, accounts*each)
		}
		unbalanced := 0
		for _, sum := range sums {
			if sum != 0 {
				unbalanced++ // the first entry of each account came from outside
			}
		}
		if unbalanced != accounts {
			t.Errorf("%d transfers do not add up to zero among the accounts, want the %d that came from outside", unbalanced, accounts)
		}
	})
}
