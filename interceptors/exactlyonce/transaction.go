package exactlyonce

import (
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"math/rand/v2"
	"time"

	"example.com/rolecall/interceptors/internal/feature"
)

// transaction is an open one, as it goes along in the context of who works in it.
type transaction struct {
	tx      *sql.Tx
	dialect Dialect
	after   []func(error)
	earlier *preparation // of the request; nil where there is none to run again
	asked   bool         // for what earlier is to do
}

type transactionKey struct{}

func transactionOf(ctx context.Context) *transaction {
	t, _ := ctx.Value(transactionKey{}).(*transaction)
	return t
}

// Tx returns the open transaction: in a handler of the local form, and in the functions given to Begin, Finish and Refuse.
// nil elsewhere. What is done in it takes effect together with the stored outcome, or not at all. It is used by one goroutine
// at a time, never after the handler has returned, and neither committed nor rolled back by it.
func Tx(ctx context.Context) *sql.Tx {
	if t := transactionOf(ctx); t != nil {
		return t.tx
	}
	return nil
}

// Afterwards has f called once the open transaction is over, with nil if it was committed, or ErrOutcomeUnknown if the
// database did not say. It is not called if nothing was committed, nor if the handler ended with a refusal. Without an open
// transaction it is not called either.
func Afterwards(ctx context.Context, f func(error)) {
	if t := transactionOf(ctx); t != nil {
		t.after = append(t.after, f)
	}
}

// Bounds of what is tried again because of other transactions. The caller's deadline is another.
const (
	maxAttempts  = 20
	firstBackoff = 5 * time.Millisecond
	lastBackoff  = 500 * time.Millisecond
)

// errRaced is what a transaction ends with that found another one's row where it had seen none.
var errRaced = errors.New("another transaction has stored the same request meanwhile")

// undone is the error of a handler that undoes its transaction.
type undone struct{ error }

func (u undone) Unwrap() error { return u.error }

// undo makes the error that ends the transaction of one that a handler ended with. If the transaction was over before the
// handler was, or the connection to the database is gone, that is the reason, whatever the handler has made of it.
func (t *transaction) undo(ctx context.Context, err error) error {
	if ctx.Err() != nil || gaveWay(err) && t.dialect == DialectPostgreSQL {
		return undone{err}
	}
	if gone := t.rollBack(ctx); gone != nil {
		return gone
	}
	return undone{err}
}

// write runs f in a transaction, again if it gave way to others, within the deadline of ctx. What f was asked to do by
// Afterwards is done when it is over.
func (r *Requests) write(ctx context.Context, f func(ctx context.Context, t *transaction) error) error {
	for attempt := 1; ; attempt++ {
		var after []func(error)
		err := r.config.DB.Write(ctx, func(ctx context.Context, tx *sql.Tx) error {
			t := &transaction{tx: tx, dialect: r.config.DB.Dialect()}
			err := f(feature.InTransaction(context.WithValue(ctx, transactionKey{}, t)), t)
			after = t.after
			return err
		})
		if err == nil || errors.Is(err, ErrOutcomeUnknown) {
			for _, f := range after {
				f(err)
			}
			return err
		}
		if !gaveWay(err) || attempt == maxAttempts {
			return err
		}
		r.log.LogAttrs(ctx, slog.LevelDebug, "transaction tried again", slog.Int("attempt", attempt), slog.Any("error", err))
		backoff := time.NewTimer(rand.N(min(firstBackoff<<(attempt-1), lastBackoff)))
		select {
		case <-backoff.C:
		case <-ctx.Done():
			backoff.Stop()
			return ctx.Err()
		}
	}
}

// within runs f in the open transaction if there is one, and else in one of its own.
func (r *Requests) within(ctx context.Context, f func(ctx context.Context, t *transaction) error) error {
	if t := transactionOf(ctx); t != nil {
		return f(ctx, t)
	}
	return r.write(ctx, f)
}
