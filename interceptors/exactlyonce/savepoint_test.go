package exactlyonce_test

import (
	"context"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"example.com/rolecall/interceptors/exactlyonce"
	"example.com/rolecall/internal/store/storetest"
)

// interrupted is a statement that a handler gives a time of its own, and whose failure it takes lightly. SQLite rolls back the whole
// transaction then (https://www.sqlite.org/c3ref/interrupt.html), unless the time was over before the statement had begun: it gets
// more time until that has happened.
func interrupted(t *testing.T, ctx context.Context) {
	t.Helper()
	tx := exactlyonce.Tx(ctx)
	if _, err := tx.ExecContext(ctx, "INSERT INTO statistics VALUES (0)"); err != nil {
		t.Error(err)
	}
	for given, there := 50*time.Millisecond, 1; there != 0; given *= 2 {
		short, cancel := context.WithTimeout(ctx, given)
		_, err := tx.ExecContext(short, "INSERT INTO statistics SELECT n FROM "+
			"(WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 500000000) SELECT n FROM numbers)")
		cancel()
		if err == nil {
			t.Error("the statement was not interrupted")
		}
		if err := tx.QueryRowContext(ctx, "SELECT COUNT(*) FROM statistics WHERE value = 0").Scan(&there); err != nil || given > 10*time.Second {
			t.Errorf("after %v: %d rows are left of the transaction, %v", given, there, err)
			return
		}
	}
}

func TestAHandlerThatGoesOnAfterSQLiteHasRolledBackIsNotAcknowledged(t *testing.T) {
	t.Parallel()
	fail := func(code codes.Code) error { return status.Error(code, "no") }
	for name, test := range map[string]struct {
		saga bool
		run  func(t *testing.T, ctx context.Context) (proto.Message, error)
		rows int
	}{
		"and answers": {run: func(t *testing.T, ctx context.Context) (proto.Message, error) {
			m, err := bump(ctx)
			interrupted(t, ctx)
			return m, err
		}},
		"and refuses for good": {run: func(t *testing.T, ctx context.Context) (proto.Message, error) {
			interrupted(t, ctx)
			return nil, fail(codes.NotFound)
		}},
		"and asks to come again": {run: func(t *testing.T, ctx context.Context) (proto.Message, error) {
			interrupted(t, ctx)
			return nil, fail(codes.Unavailable)
		}},
		"in Begin": {saga: true, run: func(t *testing.T, ctx context.Context) (proto.Message, error) {
			return nil, exactlyonce.SagaFrom(ctx).Begin(ctx, func(ctx context.Context) error {
				interrupted(t, ctx)
				return nil
			})
		}},
		"in Finish": {saga: true, rows: 1, run: func(t *testing.T, ctx context.Context) (proto.Message, error) {
			saga, m := exactlyonce.SagaFrom(ctx), response("x")
			if err := saga.Begin(ctx, nil); err != nil {
				return nil, err
			}
			return m, saga.Finish(ctx, m, func(ctx context.Context) error {
				interrupted(t, ctx)
				return nil
			})
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := newKit(t, storetest.SQLite(t))
			k.createEffects(t)
			k.exec(t, "CREATE TABLE statistics (value BIGINT)")
			r := k.start(t, nil)
			if test.saga {
				r = k.start(t, nil, never(t))
			}
			idle(t, r)
			got := do(t.Context(), r, call(newID(), proven), func(ctx context.Context) (proto.Message, error) { return test.run(t, ctx) })
			if got != (result{Code: codes.Internal}) {
				t.Errorf("got %+v, want Internal", got)
			}
			if !k.log.has("level=ERROR", "the transaction was over before the handler was", transfer) {
				t.Errorf("the log has %s", k.log.String())
			}
			k.check(t, 0, test.rows, test.rows)
			if n := k.number(t, "SELECT COUNT(*) FROM rolecall_requests WHERE state <> 'RUNNING'"); n != 0 {
				t.Errorf("%d outcomes are stored", n)
			}
		})
	}
}

// What the database refuses at the commit it will refuse each time.
func TestAConstraintAtTheCommitIsInternal(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, k *kit) {
		k.exec(t, "CREATE TABLE parents (id BIGINT PRIMARY KEY)")
		k.exec(t, "CREATE TABLE children (parent BIGINT REFERENCES parents (id) DEFERRABLE INITIALLY DEFERRED)")
		if !postgres(k.url) {
			k.exec(t, "PRAGMA foreign_keys = 1")
		}
		orphan := func(ctx context.Context) error {
			_, err := exactlyonce.Tx(ctx).ExecContext(ctx, "INSERT INTO children VALUES (7)")
			return err
		}
		for name, one := range map[string]func() result{
			"local": func() result {
				return do(t.Context(), k.start(t, nil), call(newID(), proven), func(ctx context.Context) (proto.Message, error) {
					return response("x"), orphan(ctx)
				})
			},
			"in the Begin of a saga": func() result {
				return do(t.Context(), k.start(t, nil, never(t)), call(newID(), proven), func(ctx context.Context) (proto.Message, error) {
					return nil, exactlyonce.SagaFrom(ctx).Begin(ctx, orphan)
				})
			},
		} {
			if got := one(); got != (result{Code: codes.Internal}) {
				t.Errorf("%s: got %+v, want Internal", name, got)
			}
		}
		if !k.log.has("level=ERROR", "refused to commit", transfer) {
			t.Errorf("the log has %s", k.log.String())
		}
		k.check(t, 0, 0, 0)
		ok(t, do(t.Context(), k.start(t, nil), call(newID()), bump)) // the connection is good for the next one
	})
}

func TestAStatementThatFailsUnnoticedInBeginIsInternalOnPostgres(t *testing.T) {
	t.Parallel()
	k := newKit(t, storetest.Postgres(t))
	k.createEffects(t)
	got := do(t.Context(), k.start(t, nil, never(t)), call(newID(), proven), func(ctx context.Context) (proto.Message, error) {
		return nil, exactlyonce.SagaFrom(ctx).Begin(ctx, func(ctx context.Context) error {
			_, _ = exactlyonce.Tx(ctx).ExecContext(ctx, "SELECT nothing")
			return nil
		})
	})
	if got != (result{Code: codes.Internal}) {
		t.Errorf("got %+v, want Internal", got)
	}
	k.check(t, 0, 0, 0)
}
