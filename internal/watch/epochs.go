package watch

import (
	"context"
	"crypto/rand"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"example.com/rolecall/internal/store"
)

// leaveInterval is how often a caller who knows more than the database has all streams begin anew, at most.
const leaveInterval = 10 * time.Minute

// leaveTimeout bounds the transaction that begins an epoch.
const leaveTimeout = 10 * time.Second

// ErrNewEpoch ends a stream whose sequence numbers mean nothing any more.
var ErrNewEpoch = status.Error(codes.Unavailable, "the database was put back from a copy: watch again, from the start")

// Epochs are those of a database, which has a table of one row with the columns epoch and sequence: a sequence number means
// something in its epoch only. Safe for concurrent use.
type Epochs struct {
	db      *store.DB
	table   string
	changed *Bell
	left    atomic.Int64 // when a caller last had an epoch left; nanoseconds since 1970, 0 for never
}

// NewEpochs returns the epochs of a database, whose streams wait for the bell.
func NewEpochs(db *store.DB, table string, changed *Bell) *Epochs {
	return &Epochs{db: db, table: table, changed: changed}
}

// Begin gives the database an epoch if it has none. An SQLite file gets a new one at each start: it may have been put back
// from a copy, and then it would count again what it has counted before.
func (e *Epochs) Begin(ctx context.Context) error {
	var epoch string
	if err := e.db.QueryRow(ctx, "SELECT epoch FROM "+e.table).Scan(&epoch); err != nil || epoch != "" && e.db.Shared() {
		return err
	}
	return e.leave(ctx, epoch)
}

// Ahead is told of a caller who knows of changes that the database does not, which makes it an older copy: a new epoch begins.
// The word of one caller, who may lie, ends the streams of all, so that happens once in ten minutes at most; left says whether
// it did. The end of the caller's context does not interrupt it.
func (e *Epochs) Ahead(ctx context.Context, epoch string, now time.Time) (left bool, err error) {
	at, last := now.UnixNano(), e.left.Load()
	if last != 0 && at >= last && at-last <= int64(leaveInterval) || !e.left.CompareAndSwap(last, at) {
		return false, nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveTimeout)
	defer cancel()
	if err := e.leave(ctx, epoch); err != nil {
		e.left.CompareAndSwap(at, last) // the next caller tries again
		return false, err
	}
	return true, nil
}

// Check is for a stream that has sent what there was up to a sequence number of an epoch, and is told where the database is now:
// ErrNewEpoch if that is another epoch. A sequence number that has gone back is a database that was put back from a copy while it
// was in use, and counts again what it has counted before: a new epoch begins.
func (e *Epochs) Check(ctx context.Context, epoch string, sent int64, nowEpoch string, now int64) error {
	if nowEpoch == epoch && now >= sent {
		return nil
	}
	if nowEpoch == epoch {
		if err := e.leave(ctx, epoch); err != nil {
			return err
		}
	}
	return ErrNewEpoch
}

// leave begins a new epoch, unless another process has done so already.
func (e *Epochs) leave(ctx context.Context, epoch string) error {
	defer e.changed.Ring()
	return e.db.Write(ctx, func(tx *store.Tx) error {
		_, err := tx.Exec("UPDATE "+e.table+" SET epoch = $1 WHERE epoch = $2", rand.Text(), epoch)
		return err
	})
}
