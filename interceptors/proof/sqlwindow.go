package proof

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"example.com/rolecall/interceptors/internal/nonces"
)

// SQLiteWindow remembers nonces in a database, which outlives the replicas that share it. It makes its tables, named
// rolecall_nonces and rolecall_nonces_pruned, when the first nonce is burned. How many nonces one signer may have at a time
// (Config.PerSigner) is counted by each replica for itself. The database must stay open as long as the guard.
func SQLiteWindow(db *sql.DB) Window { return newSQLWindow(db, nonces.SQLite) }

// PostgreSQLWindow is SQLiteWindow in PostgreSQL.
func PostgreSQLWindow(db *sql.DB) Window { return newSQLWindow(db, nonces.PostgreSQL) }

func newSQLWindow(db *sql.DB, d nonces.Dialect) *sqlWindow {
	return &sqlWindow{db: db, dialect: d, timeout: burnTimeout}
}

type sqlWindow struct {
	db      *sql.DB
	dialect nonces.Dialect
	timeout time.Duration // of a call that waits for the database

	mu      sync.Mutex
	created bool
}

// burnTimeout is the timeout of windows, but in tests.
const burnTimeout = 5 * time.Second

// Burn implements Window.
func (w *sqlWindow) Burn(ctx context.Context, n Nonce) error {
	ctx, cancel := context.WithTimeout(ctx, w.timeout)
	defer cancel()
	if err := w.create(ctx); err != nil {
		return err
	}
	result, err := nonces.Burn(ctx, w.db, nonces.Nonce{Signer: n.Signer, Value: n.Value, Expires: n.Expires})
	switch {
	case err != nil:
		return err
	case result == nonces.Burned:
		return nil
	case result == nonces.Replayed:
		return ErrReplayed
	case result == nonces.Expired:
		return ErrExpired
	}
	return fmt.Errorf("burn nonce: the result is %d", result)
}

// create makes the tables once.
func (w *sqlWindow) create(ctx context.Context) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.created {
		return nil
	}
	err := w.within(ctx, func(tx *sql.Tx) error { return nonces.Create(ctx, tx, w.dialect) })
	w.created = err == nil
	return err
}

func (w *sqlWindow) within(ctx context.Context, f func(*sql.Tx) error) error {
	tx, err := w.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if err := f(tx); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	return tx.Commit()
}

// prune deletes what has expired, once a minute, until ctx ends.
func (w *sqlWindow) prune(ctx context.Context, now func() time.Time, log *slog.Logger) {
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for more := true; more && ctx.Err() == nil; {
			err := w.create(ctx)
			if err == nil {
				err = w.within(ctx, func(tx *sql.Tx) (err error) {
					more, err = nonces.Prune(ctx, tx, w.dialect, now())
					return err
				})
			}
			if err != nil {
				if ctx.Err() == nil {
					log.Warn("nonces that have expired could not be deleted", "error", err)
				}
				break
			}
		}
	}
}
