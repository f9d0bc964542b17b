package tokens

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// bell wakes whoever waits for something new in the database. It passes nothing on: who is woken reads for itself, so it
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
			t.changed.ring()
		}
	}
}
