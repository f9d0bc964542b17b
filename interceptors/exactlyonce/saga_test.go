package exactlyonce_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	ledgerv1 "example.com/rolecall/gen/ledger/v1"
	usersv1 "example.com/rolecall/gen/users/v1"
	"example.com/rolecall/interceptors/exactlyonce"
	"example.com/rolecall/interceptors/internal/feature"
)

func lease(c *exactlyonce.Config) { c.Lease = shortLease }

type resumed = func(context.Context, *ledgerv1.TransferRequest) (*ledgerv1.TransferResponse, error)

func resume(f resumed) func(*exactlyonce.Requests) {
	return func(r *exactlyonce.Requests) { exactlyonce.OnResume(r, transfer, f) }
}

// never is for sagas that nobody is to resume.
func never(t *testing.T) func(*exactlyonce.Requests) {
	return resume(func(context.Context, *ledgerv1.TransferRequest) (*ledgerv1.TransferResponse, error) {
		t.Error("the saga was resumed")
		return nil, nil
	})
}

// idle ends what a replica does in the background: it takes nothing over.
func idle(t testing.TB, r *exactlyonce.Requests) {
	t.Helper()
	if err := r.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
}

func response(id string) *ledgerv1.TransferResponse {
	return &ledgerv1.TransferResponse{Transfer: &ledgerv1.TransferRecord{TransferId: id}}
}

// pay is a saga: an effect in each of its transactions, and a step between them.
func pay(between func(context.Context, *exactlyonce.Saga) error) func(context.Context) (proto.Message, error) {
	return func(ctx context.Context) (proto.Message, error) {
		saga := exactlyonce.SagaFrom(ctx)
		if err := saga.Begin(ctx, effect); err != nil {
			return nil, err
		}
		if err := between(ctx, saga); err != nil {
			return nil, err
		}
		m := response(saga.Child("pay"))
		return m, saga.Finish(ctx, m, effect)
	}
}

func straight(context.Context, *exactlyonce.Saga) error { return nil }

func TestASagaTakesEffectOnce(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, k *kit) {
		r, id := k.start(t, nil, never(t)), newID()
		first := ok(t, do(t.Context(), r, call(id, proven), pay(func(ctx context.Context, saga *exactlyonce.Saga) error {
			if exactlyonce.Tx(ctx) != nil || feature.Transaction(ctx) {
				t.Error("there is a transaction between those of the saga")
			}
			if got := do(t.Context(), r, call(id, proven), bump); got != (result{Verdict: feature.InProgress}) {
				t.Errorf("meanwhile: got %+v", got)
			}
			if _, err := r.Find(t.Context(), saga.Key()); status.Code(err) != codes.Aborted {
				t.Errorf("find meanwhile: got %v", err)
			}
			if _, err := r.Cancel(t.Context(), saga.Key(), cancelled); status.Code(err) != codes.Aborted {
				t.Errorf("cancel meanwhile: got %v", err)
			}
			return nil
		})))
		if again := do(t.Context(), r, call(id, proven), bump); again != first {
			t.Errorf("again: got %+v, want %+v", again, first)
		}
		other := call(id, proven, func(c *feature.OnceCall) { c.Message.(*ledgerv1.TransferRequest).Note = "x" })
		if got := do(t.Context(), r, other, bump); got != (result{Verdict: feature.Reused}) {
			t.Errorf("another payload: got %+v", got)
		}
		k.check(t, 2, 1, 4) // one of the four proofs was for the call that is in progress, and was burned there
		if k.number(t, "SELECT COUNT(*) FROM rolecall_requests WHERE request IS NOT NULL") != 0 {
			t.Error("the request is still stored")
		}
	})
}

func TestASaga100InParallel(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, k *kit) {
		replicas := []*exactlyonce.Requests{k.start(t, nil, never(t)), k.start(t, nil, never(t))}
		id := newID()
		var between atomic.Int64
		var mu sync.Mutex
		answers := make(map[result]int)
		var wg sync.WaitGroup
		for i := range 100 {
			wg.Go(func() {
				got := retried(t, replicas[i%2], func() *feature.OnceCall { return call(id) }, pay(func(context.Context, *exactlyonce.Saga) error {
					between.Add(1)
					return nil
				}))
				mu.Lock()
				defer mu.Unlock()
				answers[got]++
			})
		}
		wg.Wait()
		if len(answers) != 1 || between.Load() != 1 {
			t.Errorf("%d went beyond Begin, and there were %d different answers: %v", between.Load(), len(answers), answers)
		}
		k.check(t, 2, 1, 0)
	})
}

func TestASagaThatIsRefused(t *testing.T) {
	t.Parallel()
	no := status.Error(codes.FailedPrecondition, "no")
	for name, test := range map[string]struct {
		run                   func(context.Context) (proto.Message, error)
		want                  codes.Code
		effects, rows, nonces int
	}{
		"before Begin": {func(context.Context) (proto.Message, error) { return nil, no }, codes.FailedPrecondition, 0, 1, 1},
		"before Begin, not finally": {func(context.Context) (proto.Message, error) { return nil, status.Error(codes.Unavailable, "later") },
			codes.Unavailable, 0, 0, 0},
		"by what Begin does": {func(ctx context.Context) (proto.Message, error) {
			return nil, exactlyonce.SagaFrom(ctx).Begin(ctx, func(ctx context.Context) error { return errors.Join(effect(ctx), no) })
		}, codes.FailedPrecondition, 0, 1, 1},
		"by Refuse": {func(ctx context.Context) (proto.Message, error) {
			saga := exactlyonce.SagaFrom(ctx)
			if err := saga.Begin(ctx, effect); err != nil {
				return nil, err
			}
			return nil, saga.Refuse(ctx, no, effect)
		}, codes.FailedPrecondition, 2, 1, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			each(t, func(t *testing.T, k *kit) {
				r, id := k.start(t, nil, never(t)), newID()
				if got := do(t.Context(), r, call(id, proven), test.run); got != (result{Code: test.want}) {
					t.Errorf("got %+v", got)
				}
				k.check(t, test.effects, test.rows, test.nonces)
				want := codes.OK
				if test.rows == 1 {
					want = codes.FailedPrecondition
				}
				if got := do(t.Context(), r, call(id, proven), pay(straight)); got.Code != want || got.Verdict != feature.Good {
					t.Errorf("again: got %+v, want %v", got, want)
				}
			})
		})
	}
}

func TestASagaThatEndsUnfinishedIsResumedUntilItIsFinished(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, k *kit) {
		var attempts atomic.Int64
		// The usual lease: with a short one a machine that is slow has an attempt taken over that still runs.
		r := k.start(t, nil, resume(func(ctx context.Context, _ *ledgerv1.TransferRequest) (*ledgerv1.TransferResponse, error) {
			saga := exactlyonce.SagaFrom(ctx)
			if err := saga.Begin(ctx, effect); err == nil {
				t.Error("a saga that is resumed began again")
			}
			if attempts.Add(1) == 1 {
				panic("boom")
			}
			m := response(saga.Child("pay"))
			return m, saga.Finish(ctx, m, effect)
		}))
		id := newID()
		var child string
		got := do(t.Context(), r, call(id, proven), pay(func(_ context.Context, saga *exactlyonce.Saga) error {
			child = saga.Child("pay")
			return status.Error(codes.FailedPrecondition, "looks final, and is not")
		}))
		if got != (result{Code: codes.Aborted}) {
			t.Errorf("got %+v, want Aborted", got)
		}
		k.pass(time.Second) // the longest time until the next attempt
		answer := ok(t, retried(t, r, func() *feature.OnceCall { return call(id, proven) }, bump))
		if !strings.Contains(answer.Response, child) || uuid.MustParse(child).Version() != 5 {
			t.Errorf("got %+v with the child %s", answer, child)
		}
		if attempts.Load() != 2 || k.effects(t) != 2 {
			t.Errorf("%d attempts, %d effects", attempts.Load(), k.effects(t))
		}
	})
}

func TestACallerWhoLeavesDoesNotKeepASagaFromItsEnd(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, k *kit) {
		r, id := k.start(t, nil, never(t)), newID()
		ctx, leave := context.WithCancel(t.Context())
		first := ok(t, do(ctx, r, call(id), pay(func(context.Context, *exactlyonce.Saga) error {
			leave()
			return nil
		})))
		if got := do(t.Context(), r, call(id), bump); got != first {
			t.Errorf("got %+v, want %+v", got, first)
		}
	})
}

func TestARunningSagaDoesNotExpire(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, k *kit) {
		r, id := k.start(t, nil, never(t)), newID()
		first := ok(t, do(t.Context(), r, call(id), pay(func(context.Context, *exactlyonce.Saga) error {
			k.exec(t, "UPDATE rolecall_requests SET expires_us = 1")
			k.pruneAfter(t, r, 0)
			if got := do(t.Context(), r, call(id), bump); got != (result{Verdict: feature.InProgress}) {
				t.Errorf("meanwhile: got %+v", got)
			}
			return nil
		})))
		if got := do(t.Context(), r, call(id), bump); got != first {
			t.Errorf("got %+v, want %+v: it is kept from its end on", got, first)
		}
	})
}

func TestSagasThatCannotBeAreRefusedAtStart(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, k *kit) {
		for want, test := range map[string]struct {
			method  feature.Method
			prepare func(*exactlyonce.Requests)
		}{
			"debug_redact": {feature.Method{Full: usersv1.UsersService_Create_FullMethodName}, func(r *exactlyonce.Requests) {
				exactlyonce.OnResume(r, usersv1.UsersService_Create_FullMethodName,
					func(context.Context, *usersv1.CreateRequest) (*usersv1.CreateResponse, error) { return nil, nil })
			}},
			"no method of the server": {feature.Method{Full: open}, never(t)},
			"unary methods":           {feature.Method{Full: open, ServerStream: true}, func(*exactlyonce.Requests) {}},
		} {
			r := exactlyonce.New(exactlyonce.Config{DB: adopt(k.url, k.db)})
			test.prepare(r)
			if err := r.Serve([]feature.Method{test.method}); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v, want %q", err, want)
			}
		}
	})
}
