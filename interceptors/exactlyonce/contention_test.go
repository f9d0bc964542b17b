package exactlyonce_test

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	ledgerv1 "example.com/rolecall/gen/ledger/v1"
	"example.com/rolecall/interceptors/exactlyonce"
	"example.com/rolecall/interceptors/internal/feature"
	"example.com/rolecall/internal/store/storetest"
)

// retried sends a request until it has an answer, as clients do.
func retried(t *testing.T, r *exactlyonce.Requests, c func() *feature.OnceCall, run func(context.Context) (proto.Message, error)) result {
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) {
		got := do(t.Context(), r, c(), run)
		if got.Verdict != feature.InProgress || time.Now().After(end) {
			return got
		}
	}
}

func TestTheSameRequestID100InParallel(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, k *kit) {
		replicas := []*exactlyonce.Requests{k.start(t, nil)}
		if postgres(k.url) {
			replicas = append(replicas, k.start(t, nil))
		}
		id := newID()
		var runs atomic.Int64
		var mu sync.Mutex
		answers := make(map[result]int)
		var wg sync.WaitGroup
		for i := range 100 {
			wg.Go(func() {
				got := retried(t, replicas[i%len(replicas)], func() *feature.OnceCall { return call(id, proven) }, func(ctx context.Context) (proto.Message, error) {
					runs.Add(1)
					return bump(ctx)
				})
				mu.Lock()
				defer mu.Unlock()
				answers[got]++
			})
		}
		wg.Wait()
		if len(answers) != 1 || runs.Load() != 1 {
			t.Errorf("the handler ran %d times, and there were %d different answers: %v", runs.Load(), len(answers), answers)
		}
		if k.effects(t) != 1 || k.rows(t) != 1 {
			t.Errorf("%d effects, %d rows", k.effects(t), k.rows(t))
		}
	})
}

func TestTheSameProofAtTwoReplicasAtOnceIsAcceptedByOne(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, k *kit) {
		const rounds = 200
		replicas := []*exactlyonce.Requests{k.start(t, nil), k.start(t, nil)}
		for range rounds {
			c := call(newID(), proven)
			results := make([]result, len(replicas))
			var wg sync.WaitGroup
			for i, r := range replicas {
				wg.Go(func() { results[i] = do(t.Context(), r, c, bump) })
			}
			wg.Wait()
			accepted := 0
			for _, got := range results {
				switch {
				case got.Verdict == feature.Good && got.Code == codes.OK:
					accepted++
				case got.Verdict != feature.Replayed && got.Verdict != feature.InProgress:
					t.Errorf("got %+v", got)
				}
			}
			if accepted != 1 {
				t.Fatalf("%d accepted: %+v", accepted, results)
			}
		}
		k.check(t, rounds, rounds, rounds)
	})
}

func TestARepetitionWhileTheFirstRunsIsInProgress(t *testing.T) {
	t.Parallel()
	k := newKit(t, storetest.Postgres(t))
	k.createEffects(t)
	r, other, id := k.start(t, nil), k.start(t, nil), newID()
	first := ok(t, do(t.Context(), r, call(id), func(ctx context.Context) (proto.Message, error) {
		if got := do(t.Context(), other, call(id), bump); got != (result{Verdict: feature.InProgress}) {
			t.Errorf("meanwhile: got %+v", got)
		}
		_, err := other.Cancel(t.Context(), keyOf(call(id)), cancelled)
		if status.Code(err) != codes.Aborted || !strings.Contains(err.Error(), "still runs") {
			t.Errorf("cancel meanwhile: got %v", err)
		}
		ok(t, do(t.Context(), other, call(newID()), func(context.Context) (proto.Message, error) {
			return &ledgerv1.TransferResponse{Transfer: &ledgerv1.TransferRecord{TransferId: "other"}}, nil
		}))
		return bump(ctx)
	}))
	if got := do(t.Context(), other, call(id), bump); got != first {
		t.Errorf("afterwards: got %+v, want %+v", got, first)
	}
}

func TestSerializationFailuresAreRunAgain(t *testing.T) {
	t.Parallel()
	for _, level := range []string{"read committed", "repeatable read", "serializable"} {
		t.Run(level, func(t *testing.T) {
			t.Parallel()
			url := storetest.Postgres(t)
			k := newKit(t, url+"&default_transaction_isolation="+strings.ReplaceAll(level, " ", "%20"))
			k.createEffects(t)
			r := k.start(t, nil)
			lock := ""
			if level == "read committed" {
				lock = " FOR UPDATE"
			}
			var runs atomic.Int64
			var wg sync.WaitGroup
			const workers, rounds = 6, 10
			for range workers {
				wg.Go(func() {
					for range rounds {
						ok(t, do(t.Context(), r, call(newID(), proven), func(ctx context.Context) (proto.Message, error) {
							runs.Add(1)
							tx := exactlyonce.Tx(ctx)
							var n int
							if err := tx.QueryRowContext(ctx, "SELECT times FROM effects WHERE name = 'n'"+lock).Scan(&n); err != nil {
								return nil, err
							}
							_, err := tx.ExecContext(ctx, "UPDATE effects SET times = $1 WHERE name = 'n'", n+1)
							return &ledgerv1.TransferResponse{Transfer: &ledgerv1.TransferRecord{TransferId: newID()}}, err
						}))
					}
				})
			}
			wg.Wait()
			t.Logf("%d requests took %d runs", workers*rounds, runs.Load())
			k.check(t, workers*rounds, workers*rounds, workers*rounds)
		})
	}
}

// gives is an error as drivers of PostgreSQL make them.
type gives string

func (g gives) Error() string    { return "state " + string(g) }
func (g gives) SQLState() string { return string(g) }

// busy is an error as a driver of SQLite makes them.
type busy struct{}

func (busy) Error() string { return "database is locked" }
func (busy) Code() int     { return 5 | 2<<8 }

func TestAHandlerThatGaveWayRunsAgainWithinTheDeadline(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, k *kit) {
		r := k.start(t, nil)
		for name, fault := range map[string]error{"serialization failure": gives("40001"), "deadlock": gives("40P01"), "busy": busy{}} {
			runs := 0
			got := do(t.Context(), r, call(newID(), proven), func(ctx context.Context) (proto.Message, error) {
				if runs++; runs < 4 {
					return thenFail(fault)(ctx)
				}
				return bump(ctx)
			})
			if got.Code != codes.OK || runs != 4 {
				t.Errorf("%s: got %+v after %d runs, want a response after 4", name, got, runs)
			}
		}
		k.check(t, 3, 3, 3)
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
		defer cancel()
		if got := do(ctx, r, call(newID()), thenFail(busy{})); got.Code != codes.Aborted && got.Code != codes.DeadlineExceeded {
			t.Errorf("for ever: got %+v", got)
		}
		if got := do(t.Context(), r, call(newID()), thenFail(gives("23505"))); got.Code != codes.Unknown {
			t.Errorf("an error of another kind: got %+v", got)
		}
	})
}

func TestTwoProcessesMayShareAnSQLiteFile(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, k *kit) {
		if postgres(k.url) {
			t.Skip("SQLite")
		}
		other := &kit{url: k.url, db: openDB(k.url)}
		defer other.db.Close()
		replicas := []*exactlyonce.Requests{k.start(t, nil), other.start(t, nil)}
		var wg sync.WaitGroup
		for range 20 {
			id := newID()
			for _, r := range replicas {
				wg.Go(func() { ok(t, do(t.Context(), r, call(id), bump)) })
			}
		}
		wg.Wait()
		k.check(t, 20, 20, 0)
	})
}
