package watch

import (
	"context"
	"log/slog"
	"time"
)

// Poll rings when a position in the database has changed, which other replicas may do, until ctx ends: one row is read, however
// many streams wait. what stands in the log when it cannot be read.
func Poll[Position comparable](ctx context.Context, every time.Duration, position func(context.Context) (Position, error), changed *Bell, log *slog.Logger, what string) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	var last Position
	for failing := false; ; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		now, err := position(ctx)
		if err != nil {
			if !failing && ctx.Err() == nil {
				log.LogAttrs(ctx, slog.LevelWarn, "cannot look for "+what+" of other replicas; trying again", slog.Any("error", err))
			}
			failing = true
			continue
		}
		failing = false
		if now != last {
			last = now
			changed.Ring()
		}
	}
}
