package tokens

import (
	"context"
	"log/slog"
	"time"
)

// poll looks for what other replicas revoked, and for their keys, and rings, until ctx ends: one row, however many streams
// there are.
func (t tables) poll(ctx context.Context, log *slog.Logger) {
	ticker := time.NewTicker(t.config.Poll)
	defer ticker.Stop()
	var last position
	for failing := false; ; {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		now, err := t.position(ctx)
		if err != nil {
			if !failing && ctx.Err() == nil {
				log.LogAttrs(ctx, slog.LevelWarn, "cannot look for what other replicas revoked; trying again", slog.Any("error", err))
			}
			failing = true
			continue
		}
		failing = false
		if now != last {
			last = now
			t.changed.Ring()
		}
	}
}
