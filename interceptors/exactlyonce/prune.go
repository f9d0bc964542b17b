package exactlyonce

import (
	"context"
	"log/slog"
	"time"

	"example.com/rolecall/interceptors/internal/nonces"
)

const (
	// pruneInterval is how often rows that have expired are deleted.
	pruneInterval = time.Minute
	// pruneBatch is how many of them one transaction deletes: SQLite's writer is not held for longer than a request would.
	pruneBatch = 500
)

// prune deletes what has expired, until ctx ends. Several replicas may be at it.
func (r *Requests) prune(ctx context.Context) {
	tick := time.NewTicker(pruneInterval)
	defer tick.Stop()
	for {
		r.pruneAll(ctx)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func (r *Requests) pruneAll(ctx context.Context) {
	for _, batch := range []func(context.Context, *transaction) (bool, error){r.pruneRequests, r.pruneNonces} {
		for more := true; more && ctx.Err() == nil; {
			err := r.write(ctx, func(ctx context.Context, t *transaction) (err error) {
				more, err = batch(ctx, t)
				return err
			})
			if err != nil && ctx.Err() == nil {
				r.log.LogAttrs(ctx, slog.LevelWarn, "requests that have expired could not be deleted", slog.Any("error", err))
			}
			if err != nil {
				break
			}
		}
	}
}

func (r *Requests) pruneNonces(ctx context.Context, t *transaction) (bool, error) {
	return nonces.Prune(ctx, t.tx, t.dialect, r.now())
}

// pruneRequests comes before pruneNonces, which writes down the time that the next one goes by.
func (r *Requests) pruneRequests(ctx context.Context, t *transaction) (more bool, err error) {
	passed, err := nonces.Passed(ctx, t.tx, r.now())
	if err != nil || passed.IsZero() {
		return false, err
	}
	skip := ""
	if t.dialect == DialectPostgreSQL {
		skip = " FOR UPDATE SKIP LOCKED"
	}
	deleted, err := t.tx.QueryContext(ctx, "DELETE FROM rolecall_requests WHERE key IN (SELECT key FROM rolecall_requests "+
		"WHERE expires_us <= $1 AND state <> 'RUNNING' ORDER BY expires_us LIMIT $2"+skip+") RETURNING peer, on_behalf_of", passed.UnixMicro(), pruneBatch)
	if err != nil {
		return false, err
	}
	defer deleted.Close() //nolint:errcheck // Err tells
	fewer, n := make(map[Key]int), 0
	for deleted.Next() {
		var caller Key
		if err := deleted.Scan(&caller.Peer, &caller.User); err != nil {
			return false, err
		}
		fewer[caller]--
		n++
	}
	t.after = append(t.after, func(error) {
		for caller, change := range fewer {
			r.rows.add(caller, change)
		}
	})
	return n == pruneBatch, deleted.Err()
}
