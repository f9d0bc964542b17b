package exactlyonce_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	ledgerv1 "example.com/rolecall/gen/ledger/v1"
	"example.com/rolecall/interceptors/exactlyonce"
)

func TestAHandlerWhoseSagaWasTakenOverCannotFinish(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, k *kit) {
		r, id := k.start(t, func(c *exactlyonce.Config) { c.Lease = 10 * time.Minute }, never(t)), newID() // it renews nothing meanwhile
		idle(t, r)
		var other *exactlyonce.Requests
		got := do(t.Context(), r, call(id, proven), pay(func(ctx context.Context, saga *exactlyonce.Saga) error {
			// As if this process had been stopped for longer than its lease.
			begun, goOn, finished := make(chan struct{}), make(chan struct{}), make(chan struct{})
			k.exec(t, "UPDATE rolecall_requests SET lease_us = 0")
			other = k.start(t, nil, resume(func(ctx context.Context, _ *ledgerv1.TransferRequest) (*ledgerv1.TransferResponse, error) {
				defer close(finished)
				close(begun)
				<-goOn
				m := response("of the one that took over")
				return m, exactlyonce.SagaFrom(ctx).Finish(ctx, m, effect)
			}))
			refuse := func(when string) {
				if err := saga.Refuse(ctx, status.Error(codes.NotFound, "no"), effect); status.Code(err) != codes.Aborted {
					t.Errorf("refuse %s: got %v", when, err)
				}
			}
			<-begun
			refuse("while the other attempt runs")
			close(goOn)
			<-finished
			refuse("when it has finished")
			return nil
		}))
		if !strings.Contains(ok(t, got).Response, "of the one that took over") {
			t.Errorf("the caller got %+v", got)
		}
		if again := do(t.Context(), other, call(id, proven), bump); again != got {
			t.Errorf("again: got %+v, want %+v", again, got)
		}
		k.check(t, 2, 1, 2)
	})
}

func TestAHandlerWhoseSagaWasTakenOverIsTold(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, k *kit) {
		r := k.start(t, func(c *exactlyonce.Config) { c.Lease = 3 * time.Second }, never(t))
		idle(t, r)
		got := do(t.Context(), r, call(newID()), pay(func(ctx context.Context, _ *exactlyonce.Saga) error {
			k.exec(t, "UPDATE rolecall_requests SET fence = fence + 1, lease_us = lease_us + 60000000")
			<-ctx.Done()
			return context.Cause(ctx)
		}))
		if got != (result{Code: codes.Aborted}) {
			t.Errorf("got %+v, want Aborted", got)
		}
	})
}

func TestTheLeaseIsRenewedWhileTheHandlerRuns(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, k *kit) {
		const life = 6 * time.Second // a renewal every two seconds, which may be late by four
		lasting := func(c *exactlyonce.Config) { c.Lease = life }
		r := k.start(t, lasting, never(t))
		k.start(t, lasting, never(t)) // another replica, which looks for what was left behind
		read := func() int { return k.number(t, "SELECT lease_us FROM rolecall_requests") }
		ok(t, do(t.Context(), r, call(newID()), pay(func(context.Context, *exactlyonce.Saga) error {
			first := read()
			eventually(t, "renewed beyond its first end", func() bool { return read()-first > int(life.Microseconds()) })
			return nil
		})))
	})
}

func TestTwoWorkersDoNotTakeOverTheSameSaga(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, k *kit) {
		var ended, twice atomic.Int64
		var running sync.Map
		const sagas = 20
		seed := k.start(t, nil, never(t))
		idle(t, seed)
		for range sagas {
			do(t.Context(), seed, call(newID()), pay(func(context.Context, *exactlyonce.Saga) error { return errors.New("later") }))
		}
		// For a minute nobody takes any, and then they are due for both replicas at once.
		k.exec(t, "UPDATE rolecall_requests SET lease_us = lease_us + 60000000")
		for range 2 {
			k.start(t, nil, resume(func(ctx context.Context, _ *ledgerv1.TransferRequest) (*ledgerv1.TransferResponse, error) {
				saga := exactlyonce.SagaFrom(ctx)
				if _, other := running.LoadOrStore(saga.Key(), true); other {
					twice.Add(1)
				}
				defer running.Delete(saga.Key())
				m := response("x")
				err := saga.Finish(ctx, m, effect) // on SQLite it may find the file busy, and comes again
				if err == nil {
					ended.Add(1)
				}
				return m, err
			}))
		}
		k.exec(t, "UPDATE rolecall_requests SET lease_us = 0")
		eventually(t, "all are finished", func() bool { return ended.Load() >= sagas })
		if ended.Load() != sagas || twice.Load() != 0 || k.effects(t) != 2*sagas {
			t.Errorf("%d finished, %d ran twice at once, %d effects, want %d, none and %d", ended.Load(), twice.Load(), k.effects(t), sagas, 2*sagas)
		}
		if left := k.number(t, "SELECT COUNT(*) FROM rolecall_requests WHERE state = 'RUNNING'"); left != 0 {
			t.Errorf("%d still run", left)
		}
	})
}

func TestALeaseFromBeforeTheClockOfTheDatabaseWasSetBackHoldsNobodyUp(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, k *kit) {
		crashed(t, k, "x")
		k.exec(t, "UPDATE rolecall_requests SET lease_us = lease_us + 7200000000") // two hours
		var resumed atomic.Bool
		k.start(t, lease, resume(func(ctx context.Context, _ *ledgerv1.TransferRequest) (*ledgerv1.TransferResponse, error) {
			resumed.Store(true)
			return finish(ctx)
		}))
		eventually(t, "taken over", resumed.Load)
	})
}
