package watch_test

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"example.com/rolecall/internal/store"
	"example.com/rolecall/internal/store/storetest"
	"example.com/rolecall/internal/watch"
)

// numbered opens a database that has come to sequence number 5 of no epoch.
func numbered(t *testing.T, url string) *store.DB {
	t.Helper()
	db, err := store.Open(t.Context(), store.Config{Service: "watched", URL: url, Migrations: fstest.MapFS{"0001_state.sql": {Data: []byte(
		"-- +goose Up\nCREATE TABLE state (epoch TEXT NOT NULL, sequence BIGINT NOT NULL);\nINSERT INTO state VALUES ('', 5);\n")}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

func epochOf(t *testing.T, db *store.DB) (epoch string) {
	t.Helper()
	if err := db.QueryRow(t.Context(), "SELECT epoch FROM state").Scan(&epoch); err != nil {
		t.Fatal(err)
	}
	return epoch
}

func TestAnEpochEndsWhereSequenceNumbersMeanNothingAnyMore(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, url string) {
		db, bell, ctx := numbered(t, url), watch.NewBell(), t.Context()
		epochs := watch.NewEpochs(db, "state", bell)
		if err := epochs.Begin(ctx); err != nil {
			t.Fatal(err)
		}
		first := epochOf(t, db)
		if err := epochs.Begin(ctx); err != nil || first == "" || (epochOf(t, db) == first) != db.Shared() {
			t.Errorf("at the next start: %q after %q, %v; a file begins a new epoch, a server does not", epochOf(t, db), first, err)
		}

		epoch, rung := epochOf(t, db), bell.Next()
		for sent, want := range map[int64]error{0: nil, 5: nil, 6: watch.ErrNewEpoch} {
			before := epochOf(t, db)
			err := epochs.Check(ctx, epoch, sent, epoch, 5)
			if !errors.Is(err, want) || (epochOf(t, db) != before) != (want != nil) {
				t.Errorf("a stream that has sent %d of 5: %v, epoch %q after %q", sent, err, epochOf(t, db), before)
			}
		}
		select {
		case <-rung:
		default:
			t.Error("the other streams were not woken")
		}
		if err := epochs.Check(ctx, epoch, 5, epochOf(t, db), 5); !errors.Is(err, watch.ErrNewEpoch) {
			t.Errorf("a stream of the epoch before: %v", err)
		}

		gone, cancel := context.WithCancel(ctx)
		cancel()
		now := time.Now()
		before := epochOf(t, db)
		if left, err := epochs.Ahead(gone, before, now.Add(-time.Hour)); !left || err != nil || epochOf(t, db) == before {
			t.Errorf("a caller from the future who has gone: left %v, %v, epoch %q after %q", left, err, epochOf(t, db), before)
		}
		for _, test := range []struct {
			after time.Duration
			left  bool
		}{{0, true}, {time.Minute, false}, {9 * time.Minute, false}, {11 * time.Minute, true}, {-time.Hour, true}} {
			before := epochOf(t, db)
			left, err := epochs.Ahead(ctx, before, now.Add(test.after))
			if err != nil || left != test.left || (epochOf(t, db) != before) != left {
				t.Errorf("a caller from the future after %v: left %v, %v, epoch %q after %q", test.after, left, err, epochOf(t, db), before)
			}
		}
	})
}

func TestAnEpochThatCannotEndUsesUpNoTurn(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, url string) {
		db, ctx, now := numbered(t, url), t.Context(), time.Now()
		epochs := watch.NewEpochs(db, "state", watch.NewBell())
		rename := func(from, to string) {
			t.Helper()
			if err := db.Write(ctx, func(tx *store.Tx) error {
				_, err := tx.Exec("ALTER TABLE " + from + " RENAME TO " + to)
				return err
			}); err != nil {
				t.Fatal(err)
			}
		}
		rename("state", "away")
		if left, err := epochs.Ahead(ctx, "", now); left || err == nil {
			t.Errorf("without the table: left %v, %v, want an error", left, err)
		}
		rename("away", "state")
		if left, err := epochs.Ahead(ctx, "", now.Add(time.Second)); !left || err != nil {
			t.Errorf("a second later: left %v, %v, want a new epoch", left, err)
		}
	})
}

func TestAPollRingsWhenThePositionHasChanged(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		type position struct {
			name    string
			at      int
			failure error
			rings   bool
		}
		bell := watch.NewBell()
		var database atomic.Pointer[position]
		go watch.Poll(ctx, time.Second, func(context.Context) (int, error) {
			now := database.Load()
			return now.at, now.failure
		}, bell, slog.New(slog.DiscardHandler), "changes")
		for _, step := range []position{
			{"nothing is new", 0, nil, false},
			{"a change", 1, nil, true},
			{"nothing more", 1, nil, false},
			{"the database is down", 2, errors.New("down"), false},
			{"it answers again", 2, nil, true},
			{"it has gone back", 1, nil, true},
		} {
			rung := bell.Next()
			database.Store(&step)
			time.Sleep(1100 * time.Millisecond) // of the bubble
			synctest.Wait()
			select {
			case <-rung:
				if !step.rings {
					t.Errorf("%s: rung", step.name)
				}
			default:
				if step.rings {
					t.Errorf("%s: not rung", step.name)
				}
			}
		}
	})
}
