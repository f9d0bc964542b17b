package exactlyonce_test

import (
	"context"
	"log/slog"
	"testing"
	"testing/fstest"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"example.com/rolecall/interceptors/exactlyonce"
	"example.com/rolecall/internal/store"
	"example.com/rolecall/internal/store/storetest"
)

// The services of this module run their SQL by internal/store, inside exactly once and outside of it.

func eachStore(t *testing.T, test func(t *testing.T, k *kit, db *store.DB)) {
	t.Helper()
	storetest.Each(t, func(t *testing.T, url string) {
		db, err := store.Open(t.Context(), store.Config{Service: "counting", URL: url, Migrations: fstest.MapFS{"0001_effects.sql": {Data: []byte(
			"-- +goose Up\nCREATE TABLE effects (name TEXT NOT NULL PRIMARY KEY, times BIGINT NOT NULL);\nINSERT INTO effects (name, times) VALUES ('n', 0);\n")}}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := db.Close(); err != nil {
				t.Errorf("close: %v", err)
			}
		})
		if postgres(url) {
			url += "&search_path=counting"
		}
		test(t, newKit(t, url), db)
	})
}

// increment is a service's own write, wherever it is called.
func increment(ctx context.Context, db *store.DB) error {
	return db.Within(ctx, func(tx *store.Tx) error {
		var n int
		if err := tx.QueryRow("SELECT times FROM effects WHERE name = $1"+tx.ForUpdate(), "n").Scan(&n); err != nil {
			return err
		}
		_, err := tx.Exec("UPDATE effects SET times = $1 WHERE name = $2", n+1, "n")
		return err
	})
}

func TestAServiceWritesInTheTransactionThatIsOpen(t *testing.T) {
	t.Parallel()
	eachStore(t, func(t *testing.T, k *kit, db *store.DB) {
		r := k.start(t, func(c *exactlyonce.Config) { c.DB = db.ExactlyOnce() })
		if err := increment(t.Context(), db); err != nil {
			t.Fatal(err)
		}
		handle := func(ctx context.Context) (proto.Message, error) { return response("x"), increment(ctx, db) }
		ok(t, do(t.Context(), r, call(newID(), proven), handle))
		k.check(t, 2, 1, 1)
		refused := status.Error(codes.FailedPrecondition, "no")
		if got := do(t.Context(), r, call(newID(), proven), func(ctx context.Context) (proto.Message, error) {
			if err := increment(ctx, db); err != nil {
				return nil, err
			}
			return nil, refused
		}); got != (result{Code: codes.FailedPrecondition}) {
			t.Errorf("got %+v", got)
		}
		k.check(t, 2, 2, 2)
	})
}

func TestATransactionInsideThatOfExactlyOnceIsRefusedRatherThanWaitedFor(t *testing.T) {
	t.Parallel()
	eachStore(t, func(t *testing.T, k *kit, db *store.DB) {
		r := k.start(t, func(c *exactlyonce.Config) { c.DB = db.ExactlyOnce() })
		got := do(t.Context(), r, call(newID(), proven), func(ctx context.Context) (proto.Message, error) {
			err := db.Write(ctx, func(*store.Tx) error { return nil })
			if err == nil {
				t.Error("a transaction in a transaction")
			}
			return nil, store.Status(ctx, slog.New(slog.DiscardHandler), "count", err)
		})
		if got != (result{Code: codes.Internal}) {
			t.Errorf("got %+v", got)
		}
		k.check(t, 0, 0, 0)
	})
}

func TestAServiceThatGaveWayRunsAgain(t *testing.T) {
	t.Parallel()
	eachStore(t, func(t *testing.T, k *kit, db *store.DB) {
		if !db.Shared() {
			t.Skip("SQLite's transactions are alone")
		}
		r := k.start(t, func(c *exactlyonce.Config) { c.DB = db.ExactlyOnce() })
		runs := 0
		ok(t, do(t.Context(), r, call(newID(), proven), func(ctx context.Context) (proto.Message, error) {
			runs++
			err := increment(ctx, db)
			if err == nil && runs == 1 {
				err = db.Within(ctx, func(tx *store.Tx) error {
					_, err := tx.Exec("DO $$ BEGIN RAISE EXCEPTION 'gave way' USING ERRCODE = '40P01'; END $$")
					return err
				})
			}
			if err := store.Status(ctx, slog.New(slog.DiscardHandler), "count", err); err != nil {
				if status.Code(err) != codes.Aborted {
					t.Errorf("the handler gets %v", err)
				}
				return nil, err
			}
			return response("x"), nil
		}))
		if runs != 2 {
			t.Errorf("%d runs, want 2", runs)
		}
		k.check(t, 1, 1, 1)
	})
}
