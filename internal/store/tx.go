package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"example.com/rolecall/interceptors/exactlyonce"
)

const (
	// maxAttempts bounds how often a transaction runs that PostgreSQL gave up for the sake of another.
	maxAttempts = 6
	// firstBackoff is how long the second attempt waits at most; each later one waits up to twice as long.
	firstBackoff = 10 * time.Millisecond
)

// ErrOutcomeUnknown is what Write returns when the database did not answer the commit.
var ErrOutcomeUnknown = exactlyonce.ErrOutcomeUnknown

// errNested is a transaction inside that of exactly_once: on SQLite it would wait for itself.
var errNested = errors.New("the handler is in a transaction of exactly_once: use Within in place of Write")

// Tx is a transaction that writes. It is used by one goroutine at a time.
type Tx struct {
	ctx      context.Context
	tx       *sql.Tx
	postgres bool
}

// Write runs f in a transaction and commits if f returns nil. f runs again when PostgreSQL gave the transaction up for the
// sake of another, so it must have no effect outside of tx. Errors of f come back as they are.
//
// A caller that leaves ends the wait for the writer and the statement that runs. It does not interrupt the commit, because
// nobody would know then whether it took place. An attempt ends after 30 s at the latest.
func (db *DB) Write(ctx context.Context, f func(tx *Tx) error) error {
	for attempt := 1; ; attempt++ {
		err := db.writeOnce(ctx, f)
		if err == nil || !gaveWay(err) || attempt == maxAttempts {
			return err
		}
		db.log.LogAttrs(ctx, slog.LevelDebug, "transaction tried again", slog.Int("attempt", attempt), slog.Any("error", err))
		backoff := time.NewTimer(rand.N(firstBackoff << (attempt - 1)))
		select {
		case <-backoff.C:
		case <-ctx.Done():
			backoff.Stop()
			return ctx.Err()
		}
	}
}

func (db *DB) writeOnce(ctx context.Context, f func(tx *Tx) error) error {
	if exactlyonce.Tx(ctx) != nil {
		return errNested
	}
	err := db.once.Write(ctx, func(ctx context.Context, tx *sql.Tx) error { return f(db.Join(ctx, tx)) })
	if errors.Is(err, pgx.ErrTxCommitRollback) {
		return pgx.ErrTxCommitRollback // f went on after a statement that had failed, and the outcome is known: nothing was changed
	}
	return err
}

// gaveWay says whether PostgreSQL ended the transaction because of another one: serialization_failure or
// deadlock_detected (https://www.postgresql.org/docs/current/mvcc-serialization-failure-handling.html).
func gaveWay(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && (pg.Code == "40001" || pg.Code == "40P01")
}

// Exec runs a statement and returns how many rows it changed.
func (tx *Tx) Exec(query string, args ...any) (int64, error) {
	result, err := tx.tx.ExecContext(tx.ctx, query, args...)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

// Query reads rows inside the transaction.
func (tx *Tx) Query(query string, args ...any) (*sql.Rows, error) {
	return tx.tx.QueryContext(tx.ctx, query, args...)
}

// QueryRow reads one row inside the transaction.
func (tx *Tx) QueryRow(query string, args ...any) *sql.Row {
	return tx.tx.QueryRowContext(tx.ctx, query, args...)
}

// ForUpdate ends a SELECT whose rows the transaction is going to change: nobody else changes them before it is over.
// Empty on SQLite, where the whole transaction is alone.
func (tx *Tx) ForUpdate() string {
	if tx.postgres {
		return " FOR UPDATE"
	}
	return ""
}

// insertBatch is how many rows one statement adds. The SQLite driver looks for the name of each placeholder among all of them,
// so larger statements are slower there; far smaller ones cost PostgreSQL more round trips.
const insertBatch = 32

// Insert adds rows to the columns of into, "accounts (account_id, owner)". Every row has a value for each column.
func (tx *Tx) Insert(into string, rows [][]any) error {
	for len(rows) > 0 {
		batch := rows[:min(len(rows), insertBatch)]
		rows = rows[len(batch):]
		args := make([]any, 0, len(batch)*len(batch[0]))
		tuples := make([]string, len(batch))
		for i, row := range batch {
			tuples[i] = "(" + Placeholders(len(args)+1, len(row)) + ")"
			args = append(args, row...)
		}
		if _, err := tx.Exec("INSERT INTO "+into+" VALUES "+strings.Join(tuples, ", "), args...); err != nil {
			return err
		}
	}
	return nil
}

// Placeholders writes n placeholders from number first on: $3, $4.
func Placeholders(first, n int) string {
	var b strings.Builder
	for i := range n {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "$%d", first+i)
	}
	return b.String()
}
