package users

import (
	"context"
	"log/slog"
	"time"
)

// poll looks for what other replicas raised, and rings, until ctx ends.
func (t users) poll(ctx context.Context, every time.Duration, log *slog.Logger) {
	ticker := time.NewTicker(every)
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
				log.LogAttrs(ctx, slog.LevelWarn, "cannot look for what other replicas raised; trying again", slog.Any("error", err))
			}
			failing = true
			continue
		}
		failing = false
		if now != last {
			last = now
			t.raised.Ring()
		}
	}
}
