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

	"github.com/jackc/pgx/v5/pgconn"
)

const (
	// maxTransaction bounds one attempt at a transaction from its begin on; the wait for SQLite's one writer is bounded by
	// the caller alone. The statements end with the caller too, if that is sooner.
	maxTransaction = 30 * time.Second
	// maxAttempts bounds how often a transaction runs that PostgreSQL gave up for the sake of another.
	maxAttempts = 6
	// firstBackoff is how long the second attempt waits at most; each later one waits up to twice as long.
	firstBackoff = 10 * time.Millisecond
)

// ErrOutcomeUnknown is what Write returns when the database did not answer the commit.
var ErrOutcomeUnknown = errors.New("whether the transaction was committed is not known")

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
// nobody would know then whether it took place.
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

func (db *DB) writeOnce(ctx context.Context, f func(tx *Tx) error) (err error) {
	conn, err := db.write.Conn(ctx) // on SQLite: the queue for the one writer
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // gives the connection back; nothing can go wrong that matters any more
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), maxTransaction)
	defer cancel()
	// Rows that are read to be changed are locked by ForUpdate, so PostgreSQL needs no higher level than this; SQLite has
	// but one, and its driver takes none of the names.
	options := &sql.TxOptions{}
	if db.postgres {
		options.Isolation = sql.LevelReadCommitted
	}
	tx, err := conn.BeginTx(bounded, options)
	if err != nil {
		return err
	}
	defer tx.Rollback() //nolint:errcheck // also when f panics; after Commit there is nothing left to roll back
	// database/sql rolls back when bounded ends, but only once the statement that runs has: it needs a bound of its own.
	statements, stop := context.WithTimeout(ctx, maxTransaction)
	defer stop()
	if err := f(&Tx{ctx: statements, tx: tx, postgres: db.postgres}); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		if gaveWay(err) {
			return err
		}
		return fmt.Errorf("%w: %w", ErrOutcomeUnknown, err)
	}
	return nil
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
