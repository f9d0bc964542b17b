package nonces

import (
	"context"
	"database/sql"
	"fmt"
	"time"
)

const (
	// pruneBatch is how many nonces one transaction deletes.
	pruneBatch = 2000
	// PruneDelay lies between two transactions that say through when nonces are pruned, and before the first one that deletes
	// any. One that burns a nonce may have read the mark from before it was raised; by then it has ended. It is longer than
	// the minute between two calls, so that every replica has its say meanwhile.
	PruneDelay = 90 * time.Second
	// ClockSlack is by how much the clock of one replica may be behind that of another.
	ClockSlack = 30 * time.Second
)

// Prune deletes a batch of those nonces that had expired by the time of an earlier call. Before that, it has written down the
// highest expiry among them: Burn takes no nonce as old as that any more, so that a clock that is set back makes nothing fresh
// again. That goes by the time which an earlier call has written down and no other has found to be ahead of its own: the clock of
// one replica that is fast refuses nobody else's nonces, and pruning goes on when it is right again. Call it once a minute, and
// again at once while there is more; what has expired is gone after a few minutes.
func Prune(ctx context.Context, tx *sql.Tx, d Dialect, now time.Time) (more bool, err error) {
	lock := ""
	if d == PostgreSQL {
		lock = " FOR UPDATE"
	}
	var through, raised int64
	if err := tx.QueryRowContext(ctx, readThrough+lock).Scan(&through, &raised); err != nil {
		return false, fmt.Errorf("read through when nonces were pruned: %w", err)
	}
	switch since := now.UnixMicro() - raised; {
	case since < -ClockSlack.Microseconds():
		// Raised by a clock that was ahead, or this one was set back: nobody would prune until it is as late as that again.
		if _, err := tx.ExecContext(ctx, "UPDATE rolecall_nonces_pruned SET raised_us = $1 WHERE only_row = 1", now.UnixMicro()); err != nil {
			return false, fmt.Errorf("write down when nonces are pruned: %w", err)
		}
		return false, nil
	case since < PruneDelay.Microseconds():
		return false, nil
	}
	done, err := tx.ExecContext(ctx, "DELETE FROM rolecall_nonces WHERE nonce IN "+
		"(SELECT nonce FROM rolecall_nonces WHERE expires_us <= $1 ORDER BY expires_us LIMIT $2)", through, pruneBatch)
	if err != nil {
		return false, fmt.Errorf("prune nonces: %w", err)
	}
	deleted, err := done.RowsAffected()
	if err != nil {
		return false, fmt.Errorf("prune nonces: %w", err)
	}
	if deleted == pruneBatch {
		return true, nil
	}
	_, err = tx.ExecContext(ctx, "UPDATE rolecall_nonces_pruned SET raised_us = $1, through_us = COALESCE("+
		"(SELECT MAX(expires_us) FROM rolecall_nonces WHERE expires_us <= $2), through_us) WHERE only_row = 1", now.UnixMicro(), raised)
	if err != nil {
		return false, fmt.Errorf("write down through when nonces are pruned: %w", err)
	}
	return false, nil
}
