package ledger_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	ledgerv1 "example.com/rolecall/gen/ledger/v1"
	"example.com/rolecall/internal/node/nodetest"
	"example.com/rolecall/internal/store/storetest"
	"example.com/rolecall/services/ledger"
)

// watch receives entries until it has n, and returns their IDs.
func watch(ctx context.Context, client ledgerv1.LedgerServiceClient, account, after string, n int) (ids []string, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := client.WatchEntries(ctx, &ledgerv1.WatchEntriesRequest{AccountId: account, AfterEntryId: after})
	if err != nil {
		return nil, err
	}
	for len(ids) < n {
		answer, err := stream.Recv()
		if err != nil {
			return ids, err
		}
		ids = append(ids, answer.GetEntry().GetEntryId())
	}
	return ids, nil
}

// A watcher that breaks off again and again while others pay in resumes after its last entry each time. What it has got in
// the end is the list of entries, no more, no less.
func TestAResumedWatchLosesAndRepeatsNothing(t *testing.T) {
	each(t, func(t *testing.T, b *books) {
		ctx := nodetest.Context(t)
		account := b.open(t, "/service/orders", 0)
		const payers, rounds = 4, 30
		var wg sync.WaitGroup
		for range payers {
			source := b.source(t)
			wg.Go(func() {
				for range rounds {
					if _, err := b.alice.Transfer(ctx, transfer(source, account, 1)); err != nil {
						t.Errorf("transfer: %v", err)
					}
				}
			})
		}
		var got []string
		for len(got) < payers*rounds {
			last := ""
			if len(got) > 0 {
				last = got[len(got)-1]
			}
			ids, err := watch(ctx, b.alice, account, last, min(7, payers*rounds-len(got)))
			if err != nil {
				t.Fatalf("watch after %q: %v", last, err)
			}
			got = append(got, ids...)
		}
		wg.Wait()
		var want []string
		for _, e := range b.entries(t, account, 1000) {
			want = append(want, e.GetEntryId())
		}
		if !slices.Equal(got, want) {
			t.Errorf("the watch got %v,\nthe account has %v", got, want)
		}
	})
}

func TestAWatchSeesEntriesOfAnotherReplica(t *testing.T) {
	t.Parallel()
	url := storetest.Postgres(t)
	here := newBooks(t, url)
	there := here.mesh.Start(t, "ledger", url, ledger.Setup)
	other := ledgerv1.NewLedgerServiceClient(here.mesh.Client(t, "/operator/alice", there))
	account, source := here.open(t, "/service/orders", 0), here.source(t)

	stream, err := other.WatchEntries(nodetest.Context(t), &ledgerv1.WatchEntriesRequest{AccountId: account})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Header(); err != nil {
		t.Fatalf("the watch did not begin: %v", err)
	}
	for range 3 {
		if _, err := here.alice.Transfer(nodetest.Context(t), transfer(source, account, 1)); err != nil {
			t.Fatal(err)
		}
		made := time.Now()
		if _, err := stream.Recv(); err != nil {
			t.Fatalf("watch: %v", err)
		}
		t.Logf("seen after %s", time.Since(made).Round(time.Millisecond))
	}
}

func TestAWatchEndsWhenTheServerStops(t *testing.T) {
	t.Parallel()
	b := newBooks(t, "")
	account := b.open(t, "/service/orders", 1)
	stream, err := b.alice.WatchEntries(nodetest.Context(t), &ledgerv1.WatchEntriesRequest{AccountId: account})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatalf("watch: %v", err)
	}
	began := time.Now()
	if err := b.service.Stop(); err != nil {
		t.Errorf("stop: %v", err)
	}
	took := time.Since(began)
	t.Logf("stopped after %s", took)
	if took > nodetest.Patience {
		t.Errorf("the open watch held up the stop for %s", took)
	}
	if _, err := stream.Recv(); status.Code(err) != codes.Unavailable {
		t.Errorf("the watch ended with %v, want Unavailable", err)
	}
}

func TestAWatchOfAnUnknownAccountIsNotFound(t *testing.T) {
	t.Parallel()
	b := newBooks(t, "")
	if _, err := watch(nodetest.Context(t), b.alice, "nowhere", "", 1); status.Code(err) != codes.NotFound {
		t.Errorf("got %v, want NotFound", err)
	}
}

// A stream that is told before the commit finds nothing, and there may be no further word.
func TestAnOpenWatchSeesEachTransferAsItIsMade(t *testing.T) {
	each(t, func(t *testing.T, b *books) {
		ctx := nodetest.Context(t)
		account, own := b.open(t, "/service/orders", 0), b.open(t, "/service/shop", 100)
		source, shop := b.source(t), b.as(t, "/service/shop")
		stream, err := b.alice.WatchEntries(ctx, &ledgerv1.WatchEntriesRequest{AccountId: account})
		if err != nil {
			t.Fatal(err)
		}
		for i := range 50 {
			if _, err := shop.Transfer(ctx, transfer(own, account, 1000)); status.Code(err) != codes.FailedPrecondition {
				t.Fatalf("a transfer that is undone: got %v, want FailedPrecondition", err)
			}
			made, err := b.alice.Transfer(ctx, transfer(source, account, 1))
			if err != nil {
				t.Fatal(err)
			}
			seen, err := stream.Recv()
			if err != nil || seen.GetEntry().GetTransferId() != made.GetTransfer().GetTransferId() {
				t.Fatalf("transfer %d: the watch got %v, %v, want %v", i, seen, err, made)
			}
		}
	})
}
