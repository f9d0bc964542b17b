package store_test

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"example.com/rolecall/internal/leaktest"
	"example.com/rolecall/internal/store"
	"example.com/rolecall/internal/store/storetest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

var migrations = fstest.MapFS{"0001_counters.sql": {Data: []byte(`-- +goose Up
CREATE TABLE counters (name TEXT COLLATE "binary" NOT NULL PRIMARY KEY, value BIGINT NOT NULL);
`)}}

func open(t *testing.T, url string, migrations fs.FS) *store.DB {
	t.Helper()
	db, err := store.Open(t.Context(), store.Config{Service: "counting", URL: url, Migrations: migrations})
	if err != nil {
		t.Fatalf("open %s: %v", url, err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return db
}

func TestConcurrentReadModifyWritesLoseNoUpdate(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, url string) {
		db := open(t, url, migrations)
		insert := func(tx *store.Tx) error { return tx.Insert("counters (name, value)", [][]any{{"n", 0}}) }
		if err := db.Write(t.Context(), insert); err != nil {
			t.Fatalf("insert: %v", err)
		}
		const workers, rounds = 8, 25
		var wg sync.WaitGroup
		for range workers {
			wg.Go(func() {
				for range rounds {
					if err := db.Write(t.Context(), increment); err != nil {
						t.Errorf("increment: %v", err)
					}
				}
			})
		}
		wg.Wait()
		if got := value(t, db); got != workers*rounds {
			t.Errorf("after %d increments the counter is %d", workers*rounds, got)
		}
	})
}

func increment(tx *store.Tx) error {
	var v int64
	if err := tx.QueryRow("SELECT value FROM counters WHERE name = $1"+tx.ForUpdate(), "n").Scan(&v); err != nil {
		return err
	}
	_, err := tx.Exec("UPDATE counters SET value = $1 WHERE name = $2", v+1, "n")
	return err
}

func value(t *testing.T, db *store.DB) (v int64) {
	t.Helper()
	if err := db.QueryRow(t.Context(), "SELECT value FROM counters WHERE name = $1", "n").Scan(&v); err != nil {
		t.Fatalf("read counter: %v", err)
	}
	return v
}

func TestAnErrorOrAPanicUndoesTheTransaction(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, url string) {
		db := open(t, url, migrations)
		refuse := errors.New("refused")
		write := func(after func() error) (err error) {
			defer func() {
				if recover() != nil {
					err = refuse
				}
			}()
			return db.Write(t.Context(), func(tx *store.Tx) error {
				return errors.Join(tx.Insert("counters (name, value)", [][]any{{"n", 1}}), after())
			})
		}
		if err := write(func() error { return refuse }); !errors.Is(err, refuse) {
			t.Errorf("error: got %v, want %v", err, refuse)
		}
		if err := write(func() error { panic("boom") }); !errors.Is(err, refuse) {
			t.Errorf("panic: got %v, want it to arrive", err)
		}
		if err := write(func() error { return nil }); err != nil {
			t.Errorf("a row of an undone transaction is still there: %v", err)
		}
	})
}

func TestATransactionThatGoesOnAfterAFailedStatementChangesNothingOnPostgres(t *testing.T) {
	t.Parallel()
	db := open(t, storetest.Postgres(t), migrations)
	err := db.Write(t.Context(), func(tx *store.Tx) error {
		err := tx.Insert("counters (name, value)", [][]any{{"n", 1}})
		_, _ = tx.Exec("SELECT nothing")
		return err
	})
	if err == nil || errors.Is(err, store.ErrOutcomeUnknown) {
		t.Errorf("got %v, want an error that says that nothing was changed", err)
	}
	if got := store.Status(t.Context(), slog.New(slog.DiscardHandler), "count", err); status.Code(got) != codes.Internal {
		t.Errorf("the caller gets %v, want Internal", got)
	}
}

func TestADeadlockIsTriedAgain(t *testing.T) {
	t.Parallel()
	db := open(t, storetest.Postgres(t), migrations)
	rows := [][]any{{"a", 0}, {"b", 0}}
	if err := db.Write(t.Context(), func(tx *store.Tx) error { return tx.Insert("counters (name, value)", rows) }); err != nil {
		t.Fatalf("insert: %v", err)
	}
	const change = "UPDATE counters SET value = value + 1 WHERE name = $1"
	var firstLocks, wg sync.WaitGroup
	firstLocks.Add(2)
	for _, order := range [][]string{{"a", "b"}, {"b", "a"}} {
		wg.Go(func() {
			once := sync.OnceFunc(func() { firstLocks.Done(); firstLocks.Wait() })
			err := db.Write(t.Context(), func(tx *store.Tx) error {
				_, err := tx.Exec(change, order[0])
				once() // both hold their first row: the second statements wait for each other
				if err == nil {
					_, err = tx.Exec(change, order[1])
				}
				return err
			})
			if err != nil {
				t.Errorf("%v: %v", order, err)
			}
		})
	}
	wg.Wait()
	var sum int
	if err := db.QueryRow(t.Context(), "SELECT SUM(value) FROM counters").Scan(&sum); err != nil || sum != 4 {
		t.Errorf("sum of the counters: got %d, %v, want 4", sum, err)
	}
}

func TestAWaitForTheWriterEndsWithTheCaller(t *testing.T) {
	t.Parallel()
	db := open(t, storetest.SQLite(t), migrations)
	err := db.Write(t.Context(), func(*store.Tx) error {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		err := db.Write(ctx, increment)
		if got := status.Code(store.Status(ctx, slog.New(slog.DiscardHandler), "count", err)); got != codes.DeadlineExceeded {
			t.Errorf("got %v (%v), want DeadlineExceeded", got, err)
		}
		return nil
	})
	if err != nil {
		t.Errorf("the transaction that was waited for: %v", err)
	}
}

func TestNamesAreOrderedByTheirBytes(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, url string) {
		db := open(t, url, migrations)
		if err := db.Write(t.Context(), func(tx *store.Tx) error {
			return tx.Insert("counters (name, value)", [][]any{{"ab", 0}, {"a_c", 0}, {"a-d", 0}, {"a.b", 0}, {"B", 0}})
		}); err != nil {
			t.Fatalf("insert: %v", err)
		}
		rows, err := db.Query(t.Context(), "SELECT name FROM counters ORDER BY name")
		if err != nil {
			t.Fatalf("query: %v", err)
		}
		defer rows.Close()
		var got []string
		for rows.Next() {
			var name string
			if err := rows.Scan(&name); err != nil {
				t.Fatalf("scan: %v", err)
			}
			got = append(got, name)
		}
		if err := rows.Err(); err != nil {
			t.Fatalf("rows: %v", err)
		}
		if got, want := strings.Join(got, " "), "B a-d a.b a_c ab"; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	})
}

func TestStatusTellsTheCallerNothingOfTheDatabase(t *testing.T) {
	t.Parallel()
	db := open(t, storetest.SQLite(t), migrations)
	_, err := db.Query(t.Context(), "SELECT secret FROM nowhere")
	var log strings.Builder
	got := store.Status(t.Context(), slog.New(slog.NewTextHandler(&log, nil)), "read", err)
	if status.Code(got) != codes.Internal || strings.Contains(got.Error(), "nowhere") {
		t.Errorf("the caller gets %v", got)
	}
	if !strings.Contains(log.String(), "nowhere") {
		t.Errorf("the log does not say what went wrong: %s", log.String())
	}
}
