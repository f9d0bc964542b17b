package keys

import (
	"context"
	"crypto/rand"
	"log/slog"
	"time"

	"example.com/rolecall/internal/store"
)

// position is how far the announcements have come. The epoch is that of the database: numbers of another mean nothing.
type position struct {
	epoch    string
	sequence int64
}

func (d directory) position(ctx context.Context) (p position, err error) {
	err = d.db.QueryRow(ctx, "SELECT epoch, sequence FROM state").Scan(&p.epoch, &p.sequence)
	return p, err
}

// begin gives the database an epoch if it has none. An SQLite file gets a new one at each start: it may have been put
// back from a copy, and then it would count again what it has counted before.
func (d directory) begin(ctx context.Context) error {
	p, err := d.position(ctx)
	if err != nil || p.epoch != "" && d.db.Shared() {
		return err
	}
	return d.leave(ctx, p.epoch)
}

// leave begins a new epoch, unless another process has done so already.
func (d directory) leave(ctx context.Context, epoch string) error {
	defer d.changed.Ring()
	return d.db.Write(ctx, func(tx *store.Tx) error {
		_, err := tx.Exec("UPDATE state SET epoch = $1 WHERE epoch = $2", rand.Text(), epoch)
		return err
	})
}

// poll looks for what other replicas were told, and rings, until ctx ends: one row, however many streams there are.
func (d directory) poll(ctx context.Context, log *slog.Logger) {
	ticker := time.NewTicker(d.config.Poll)
	defer ticker.Stop()
	var last position
	for failing := false; ; {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		now, err := d.position(ctx)
		if err != nil {
			if !failing && ctx.Err() == nil {
				log.LogAttrs(ctx, slog.LevelWarn, "cannot look for what other replicas were told; trying again", slog.Any("error", err))
			}
			failing = true
			continue
		}
		failing = false
		if now != last {
			last = now
			d.changed.Ring()
		}
	}
}
