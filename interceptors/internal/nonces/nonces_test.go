package nonces_test

import (
	"context"
	"crypto/rand"
	"database/sql"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
	_ "modernc.org/sqlite"             // the driver "sqlite"

	"example.com/rolecall/interceptors/internal/nonces"
	"example.com/rolecall/internal/store/storetest"
)

// window is the tables in one database.
type window struct {
	*sql.DB
	dialect nonces.Dialect
}

func each(t *testing.T, test func(t *testing.T, w window)) {
	storetest.Each(t, func(t *testing.T, url string) { test(t, open(t, url)) })
}

func open(t testing.TB, url string) window {
	t.Helper()
	driver, dialect := "pgx", nonces.PostgreSQL
	if !strings.HasPrefix(url, "postgres://") {
		driver, dialect = "sqlite", nonces.SQLite
		url = "file:" + filepath.ToSlash(url) + "?_txlock=immediate&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)"
	}
	db, err := sql.Open(driver, url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	db.SetMaxOpenConns(8)
	db.SetMaxIdleConns(8)
	if dialect == nonces.SQLite {
		db.SetMaxOpenConns(1)
	}
	w := window{db, dialect}
	for range 2 {
		if err := w.create(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

func (w window) create(ctx context.Context) error {
	tx, err := w.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() //nolint:errcheck // after Commit there is nothing to roll back
	if err := nonces.Create(ctx, tx, w.dialect); err != nil {
		return err
	}
	return tx.Commit()
}

func (w window) burn(t testing.TB, n nonces.Nonce) nonces.Result {
	t.Helper()
	got, err := nonces.Burn(t.Context(), w, n)
	if err != nil {
		t.Fatalf("burn %+v: %v", n, err)
	}
	return got
}

// prune deletes all that may go, and tells how many nonces are left.
func (w window) prune(t testing.TB, now time.Time) (left int) {
	t.Helper()
	for more := true; more; {
		tx, err := w.BeginTx(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if more, err = nonces.Prune(t.Context(), tx, w.dialect, now); err != nil {
			t.Fatalf("prune: %v", err)
		}
		if err := tx.Commit(); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.QueryRowContext(t.Context(), "SELECT COUNT(*) FROM rolecall_nonces").Scan(&left); err != nil {
		t.Fatal(err)
	}
	return left
}

const signer = "spiffe://mesh.local/service/orders"

func nonce(expires time.Time) nonces.Nonce {
	return nonces.Nonce{Signer: signer, Value: rand.Text(), Expires: expires}
}

func TestANonceIsBurnedOnce(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, w window) {
		n := nonce(time.Now().Add(time.Minute))
		another := n
		another.Signer = "spiffe://mesh.local/service/billing"
		shifted := nonces.Nonce{Signer: n.Signer + n.Value[:1], Value: n.Value[1:], Expires: n.Expires}
		for _, test := range []struct {
			name string
			n    nonces.Nonce
			want nonces.Result
		}{
			{"the first time", n, nonces.Burned},
			{"the same proof twice", n, nonces.Replayed},
			{"another identity with the same nonce", another, nonces.Burned},
			{"another identity whose name and nonce together read the same", shifted, nonces.Burned},
			{"with another expiry", nonces.Nonce{Signer: n.Signer, Value: n.Value, Expires: n.Expires.Add(time.Second)}, nonces.Replayed},
			{"a nonce of 1 KB", nonces.Nonce{Signer: signer, Value: strings.Repeat("x", 1024), Expires: n.Expires}, nonces.Burned},
			{"an empty nonce", nonces.Nonce{Signer: signer, Expires: n.Expires}, nonces.Burned},
		} {
			if got := w.burn(t, test.n); got != test.want {
				t.Errorf("%s: got %v, want %v", test.name, got, test.want)
			}
		}
	})
}

func TestTheSameProof100TimesInParallel(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, w window) {
		n := nonce(time.Now().Add(time.Minute))
		results := make(chan nonces.Result, 100)
		var wg sync.WaitGroup
		for range cap(results) {
			wg.Go(func() { results <- w.burn(t, n) })
		}
		wg.Wait()
		close(results)
		got := make(map[nonces.Result]int)
		for r := range results {
			got[r]++
		}
		if got[nonces.Burned] != 1 || got[nonces.Replayed] != 99 {
			t.Errorf("got %v, want 1 burned and 99 replayed", got)
		}
	})
}

func TestATransactionThatIsUndoneBurnsNothing(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, w window) {
		n := nonce(time.Now().Add(time.Minute))
		tx, err := w.BeginTx(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := nonces.Burn(t.Context(), tx, n); got != nonces.Burned || err != nil {
			t.Fatalf("got %v, %v", got, err)
		}
		if err := tx.Rollback(); err != nil {
			t.Fatal(err)
		}
		if got := w.burn(t, n); got != nonces.Burned {
			t.Errorf("got %v, want it burned now", got)
		}
	})
}

func TestWhoStartsDoesNotWaitForWhoBurns(t *testing.T) {
	t.Parallel()
	w := open(t, storetest.Postgres(t))
	tx, err := w.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback() //nolint:errcheck // it is not to be committed
	if got, err := nonces.Burn(t.Context(), tx, nonce(time.Now().Add(time.Minute))); err != nil || got != nonces.Burned {
		t.Fatalf("burn: %v, %v", got, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := w.create(ctx); err != nil {
		t.Errorf("create the tables, which are there, while a nonce is burned: %v", err)
	}
}

func TestPruningDoesNotOpenTheWindowAgain(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, w window) {
		now := time.Now()
		old, young := nonce(now.Add(30*time.Second)), nonce(now.Add(time.Hour))
		w.burn(t, old)
		w.burn(t, young)
		for _, step := range []struct {
			after time.Duration
			left  int
		}{
			{0, 2},
			{60 * time.Second, 2},                     // too soon after the last one
			{2 * time.Minute, 2},                      // the mark is raised through the first call, when nothing had expired
			{4 * time.Minute, 2},                      // through the second one
			{4*time.Minute + 1, 2},                    // one that burns may still have the mark from before
			{6*time.Minute + 1, 1},                    // gone
			{8*time.Minute + 2, 1},                    // the other one has not expired
			{-10 * time.Minute, 1},                    // the clock is set back
			{24 * time.Hour, 1},                       // it is far ahead, and nobody else says so
			{24*time.Hour + time.Hour, 1},             // the mark goes no further than what was burned
			{24*time.Hour + time.Hour + time.Hour, 0}, //
		} {
			if left := w.prune(t, now.Add(step.after)); left != step.left {
				t.Errorf("after %v: %d left, want %d", step.after, left, step.left)
			}
		}
		for _, n := range []nonces.Nonce{old, young, nonce(young.Expires)} {
			if got := w.burn(t, n); got != nonces.Expired {
				t.Errorf("of what is pruned: got %v, want expired", got)
			}
		}
		if got := w.burn(t, nonce(young.Expires.Add(time.Microsecond))); got != nonces.Burned {
			t.Errorf("one that expires later: got %v", got)
		}
	})
}

func TestPruningGoesOnAfterAClockWasAhead(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, w window) {
		now := time.Now()
		w.prune(t, now.Add(24*time.Hour)) // once, by one replica
		n := nonce(now.Add(30 * time.Second))
		w.burn(t, n)
		for _, step := range []struct {
			after time.Duration
			left  int
		}{
			{time.Minute, 1},                   // the clock was ahead: what follows is reckoned from here
			{time.Minute + time.Second, 1},     // too soon after that
			{3*time.Minute + time.Second, 1},   // the mark is raised
			{5*time.Minute + 2*time.Second, 0}, //
		} {
			if left := w.prune(t, now.Add(step.after)); left != step.left {
				t.Errorf("after %v: %d left, want %d", step.after, left, step.left)
			}
		}
		if got := w.burn(t, n); got != nonces.Expired {
			t.Errorf("of what is pruned: got %v, want expired", got)
		}
	})
}

func TestTheClockOfOneReplicaThatIsAheadRefusesNobodyElsesNonces(t *testing.T) {
	t.Parallel()
	for _, ahead := range []time.Duration{45 * time.Second, 2 * time.Minute, 24 * time.Hour} {
		// Both prune once a minute; the one with the good clock this much after the other.
		for _, apart := range []time.Duration{30 * time.Second, time.Millisecond} {
			each(t, func(t *testing.T, w window) {
				for minute := range 10 {
					now := time.Now().Add(time.Duration(minute) * time.Minute)
					w.prune(t, now.Add(ahead))
					// A signed request that is passed on lives for a minute, others are about to end.
					w.burn(t, nonce(now.Add(65*time.Second)))
					if got := w.burn(t, nonce(now.Add(10*time.Second))); got != nonces.Burned {
						t.Errorf("ahead by %v, minute %d: got %v, want burned", ahead, minute, got)
					}
					if left := w.prune(t, now.Add(apart)); left > 12 {
						t.Errorf("ahead by %v, minute %d: %d left, want those of a few minutes", ahead, minute, left)
					}
				}
			})
		}
	}
}

func TestPruningIsDoneInBatches(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, w window) {
		now := time.Now()
		_, err := w.ExecContext(t.Context(), "INSERT INTO rolecall_nonces (nonce, expires_us) "+
			"WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 5001) SELECT CAST(n AS TEXT), n FROM numbers")
		if err != nil {
			t.Fatal(err)
		}
		w.prune(t, now)
		w.prune(t, now.Add(2*time.Minute))
		if left := w.prune(t, now.Add(4*time.Minute)); left != 0 {
			t.Errorf("%d left", left)
		}
	})
}

func TestWithoutTheMarkNothingIsBurned(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, w window) {
		if _, err := w.ExecContext(t.Context(), "DELETE FROM rolecall_nonces_pruned"); err != nil {
			t.Fatal(err)
		}
		if got, err := nonces.Burn(t.Context(), w, nonce(time.Now().Add(time.Minute))); err == nil {
			t.Errorf("got %v, want an error", got)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if got, err := nonces.Burn(context.Background(), w, nonce(time.Now().Add(time.Minute))); err == nil || got == nonces.Burned {
			t.Errorf("a database that is closed: got %v, %v", got, err)
		}
	})
}

func BenchmarkBurn(b *testing.B) {
	for kind, database := range map[string]func(testing.TB) string{"sqlite": storetest.SQLite, "postgres": storetest.Postgres} {
		b.Run(kind, func(b *testing.B) {
			w := open(b, database(b))
			b.ResetTimer()
			for b.Loop() {
				w.burn(b, nonce(time.Now().Add(time.Minute)))
			}
		})
	}
}
