package exactlyonce

import (
	"context"
	"fmt"
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

// pruneRequests deletes a batch of those requests that had expired by the time of an earlier call, as nonces.Prune does: one that
// this one writes down when it is through. So a clock that is ahead for a minute forgets nothing.
func (r *Requests) pruneRequests(ctx context.Context, t *transaction) (more bool, err error) {
	lock, skip := "", ""
	if t.dialect == DialectPostgreSQL {
		lock, skip = " FOR UPDATE", " FOR UPDATE SKIP LOCKED"
	}
	now, passed := r.now().UnixMicro(), int64(0)
	if err := t.tx.QueryRowContext(ctx, "SELECT through_us FROM rolecall_requests_pruned WHERE only_row = 1"+lock).Scan(&passed); err != nil {
		return false, fmt.Errorf("read when requests were pruned: %w", err)
	}
	writeDown := func() error {
		_, err := t.tx.ExecContext(ctx, "UPDATE rolecall_requests_pruned SET through_us = $1 WHERE only_row = 1", now)
		return err
	}
	switch since := now - passed; {
	case since < -nonces.ClockSlack.Microseconds():
		return false, writeDown() // by a clock that was ahead, or this one was set back
	case since < nonces.PruneDelay.Microseconds():
		return false, nil
	}
	deleted, err := t.tx.QueryContext(ctx, "DELETE FROM rolecall_requests WHERE key IN (SELECT key FROM rolecall_requests "+
		"WHERE expires_us <= $1 AND state <> 'RUNNING' ORDER BY expires_us LIMIT $2"+skip+") RETURNING peer, on_behalf_of", passed, pruneBatch)
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
	if err := deleted.Err(); err != nil || n == pruneBatch {
		return true, err
	}
	return false, writeDown()
}
