package proof_test

import (
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc/codes"

	_ "github.com/jackc/pgx/v5/stdlib"
	_ "modernc.org/sqlite"

	"example.com/rolecall/interceptors/proof"
	"example.com/rolecall/internal/store/storetest"
)

// openDB opens a database, and returns what makes windows in it.
func openDB(t *testing.T, url string) (*sql.DB, func(*sql.DB) proof.Window) {
	t.Helper()
	driver, of := "sqlite", proof.SQLiteWindow
	if strings.HasPrefix(url, "postgres") {
		driver, of = "pgx", proof.PostgreSQLWindow
	} else {
		url += "?_pragma=busy_timeout(60000)&_pragma=journal_mode(wal)&_pragma=synchronous(off)" // nobody cuts the power
	}
	db, err := sql.Open(driver, url)
	must(t, err)
	t.Cleanup(func() { _ = db.Close() })
	if driver == "sqlite" {
		db.SetMaxOpenConns(1)
	}
	return db, func(db *sql.DB) proof.Window { return proof.WithoutHurry(of(db)) }
}

func TestNoncesInADatabaseAreBurnedOnce(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, url string) {
		db, window := openDB(t, url)
		other, _ := openDB(t, url)
		replicas := []proof.Window{window(db), window(other)}
		burns(t, replicas[0], issued("a", 1, 0), nil, "the first")
		burns(t, replicas[0], issued("a", 1, 0), proof.ErrReplayed, "the same again")
		burns(t, replicas[1], issued("a", 1, 0), proof.ErrReplayed, "the same at a second replica")
		burns(t, window(other), issued("a", 1, 0), proof.ErrReplayed, "the same after a restart")
		burns(t, replicas[1], issued("b", 1, 0), nil, "another identity with the same nonce")
		for i := range 20 {
			var wins atomic.Int64
			var burning sync.WaitGroup
			for _, w := range replicas {
				for range 2 {
					burning.Go(func() {
						err := w.Burn(t.Context(), issued("c", i, 0))
						if err == nil {
							wins.Add(1)
						} else if !errors.Is(err, proof.ErrReplayed) {
							t.Error(err)
						}
					})
				}
			}
			burning.Wait()
			if wins.Load() != 1 {
				t.Errorf("nonce %d was burned %d times", i, wins.Load())
			}
		}
		must(t, db.Close())
		if err := replicas[0].Burn(t.Context(), issued("d", 1, 0)); err == nil || errors.Is(err, proof.ErrReplayed) || errors.Is(err, proof.ErrExpired) {
			t.Errorf("a database that is gone: %v", err)
		}
	})
}

func TestAWindowInADatabaseBehindAGuard(t *testing.T) {
	t.Parallel()
	db, window := openDB(t, storetest.SQLite(t))
	m := newMesh(t, func(c *meshConfig) { c.config.Window, c.cold = window(db), true })
	a := m.attacker(payer)
	text := a.prove(pay, dave)
	if _, err := send(timeout(t), a.conn, pay, dave, "rolecall-proof", text); err != nil {
		t.Fatal(err) // at once after the start
	}
	m.config.config.Window = window(db)
	m.restart()
	a.conn = m.bare(a.source)
	_, err := send(timeout(t), a.conn, pay, dave, "rolecall-proof", text)
	refused(t, err, codes.Unauthenticated, "PROOF_REPLAYED")
	must(t, db.Close())
	_, err = send(timeout(t), a.conn, pay, dave, "rolecall-proof", a.prove(pay, dave))
	refused(t, err, codes.Unavailable, "VERIFIER_UNAVAILABLE")
	if n := fmt.Sprint(m.bank.total.Load()); n != "1" {
		t.Errorf("%s was paid, want 1", n)
	}
}
