package users

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// bell wakes streams when there is something new in the database. It passes nothing on: a stream reads for itself, so it
// misses nothing and needs no buffer. Safe for concurrent use.
type bell struct {
	mu   sync.Mutex
	rung chan struct{}
}

func newBell() *bell { return &bell{rung: make(chan struct{})} }

// next returns a channel that is closed at the next ring.
func (b *bell) next() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.rung
}

func (b *bell) ring() {
	b.mu.Lock()
	defer b.mu.Unlock()
	close(b.rung)
	b.rung = make(chan struct{})
}

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
			t.raised.ring()
		}
	}
}
