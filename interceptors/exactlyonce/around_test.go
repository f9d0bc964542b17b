package exactlyonce_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"example.com/rolecall/interceptors/exactlyonce"
	"example.com/rolecall/interceptors/internal/feature"
)

var errNotCalled = errors.New("not called")

// afterwards is a handler that asks to be told what became of its transaction.
func afterwards(told *error, run func(context.Context) (proto.Message, error)) func(context.Context) (proto.Message, error) {
	*told = errNotCalled
	return func(ctx context.Context) (proto.Message, error) {
		exactlyonce.Afterwards(ctx, func(err error) { *told = err })
		return run(ctx)
	}
}

func TestAfterwardsIsCalledOnceTheEffectIsCommitted(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, k *kit) {
		r, id := k.start(t, nil), newID()
		var told error
		calls, runs := 0, 0
		ok(t, do(t.Context(), r, call(id), func(ctx context.Context) (proto.Message, error) {
			exactlyonce.Afterwards(ctx, func(error) { calls++ })
			if runs++; runs == 1 {
				return nil, busy{}
			}
			return bump(ctx)
		}))
		if runs != 2 || calls != 1 {
			t.Errorf("called %d times after %d runs, want 1 after 2", calls, runs)
		}
		ok(t, do(t.Context(), r, call(id), afterwards(&told, bump)))
		if !errors.Is(told, errNotCalled) {
			t.Errorf("a repetition: called with %v", told)
		}
		for _, code := range []codes.Code{codes.NotFound, codes.Internal} {
			do(t.Context(), r, call(newID()), afterwards(&told, thenFail(status.Error(code, "no"))))
			if !errors.Is(told, errNotCalled) {
				t.Errorf("%v: called with %v", code, told)
			}
		}
	})
}

func TestBeforehandRunsOutsideOfTheTransactionAndOnlyIfItIsReached(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, k *kit) {
		r, id := k.start(t, nil), newID()
		hashes, runs := 0, 0
		var fail error
		run := func(ctx context.Context) (proto.Message, error) {
			runs++
			if _, err := bump(ctx); err != nil {
				return nil, err
			}
			hash, err := exactlyonce.Beforehand(ctx, func(ctx context.Context) (string, error) {
				hashes++
				if exactlyonce.Tx(ctx) != nil || feature.Transaction(ctx) {
					t.Error("it runs in a transaction")
				}
				k.exec(t, "UPDATE effects SET times = times WHERE name = 'n'") // SQLite's writer is free
				return "hash", fail
			})
			if err != nil {
				return nil, err
			}
			return response(hash), nil
		}
		fail = status.Error(codes.ResourceExhausted, "too many hashes at once")
		if got := do(t.Context(), r, call(id, proven), run); got != (result{Code: codes.ResourceExhausted}) {
			t.Errorf("an error of it: got %+v", got)
		}
		k.check(t, 0, 0, 0)
		fail = nil
		first := ok(t, do(t.Context(), r, call(id, proven), run))
		if again := do(t.Context(), r, call(id, proven), run); again != first {
			t.Errorf("again: got %+v, want %+v", again, first)
		}
		if hashes != 2 || runs != 4 {
			t.Errorf("%d hashes in %d runs, want 2 in 4", hashes, runs)
		}
		k.check(t, 1, 1, 2)
		if got, err := exactlyonce.Beforehand(t.Context(), func(context.Context) (int, error) { return 7, nil }); got != 7 || err != nil {
			t.Errorf("without a transaction: got %v, %v", got, err)
		}
	})
}

func TestBeforehandIsForOneWorkOfAHandler(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, k *kit) {
		hash := func(ctx context.Context, of string) (string, error) {
			return exactlyonce.Beforehand(ctx, func(context.Context) (string, error) { return "hash of " + of, nil })
		}
		got := do(t.Context(), k.start(t, nil), call(newID()), func(ctx context.Context) (proto.Message, error) {
			a, err := hash(ctx, "a")
			if err != nil {
				return nil, err
			}
			b, err := hash(ctx, "b")
			return response(a + ", " + b), err
		})
		if got != (result{Code: codes.Internal}) {
			t.Errorf("got %+v, want Internal", got)
		}
		k.check(t, 0, 0, 0)
	})
}

func TestTwoGuardsCannotHaveTheSameFeature(t *testing.T) {
	t.Parallel()
	r := exactlyonce.New(exactlyonce.Config{DB: unopened{}})
	if _, err := r.Start(feature.Env{}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Start(feature.Env{}); err == nil {
		t.Error("it started twice")
	}
	for name, cfg := range map[string]exactlyonce.Config{
		"no database":                {},
		"a Keep that proofs outlive": {DB: unopened{}, Keep: time.Minute},
		"a long Lease":               {DB: unopened{}, Lease: exactlyonce.DefaultKeep},
		"no rows":                    {DB: unopened{}, MaxRows: -1},
	} {
		if _, err := exactlyonce.New(cfg).Start(feature.Env{}); err == nil {
			t.Errorf("%s: started", name)
		}
	}
}
