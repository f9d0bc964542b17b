package ledger

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"example.com/rolecall/internal/store"
)

// watchers wakes the streams of an account when it has a new entry. It passes on no entries: a stream reads them itself,
// so it misses none and needs no buffer. Safe for concurrent use.
type watchers struct {
	mu     sync.Mutex
	topics map[string]*topic
}

// topic is an account that at least one stream watches.
type topic struct {
	watchers *watchers
	streams  int
	entries  int64 // as last announced
	changed  chan struct{}
}

func newWatchers() *watchers { return &watchers{topics: map[string]*topic{}} }

// join adds a stream to the account's topic. It is left with leave.
func (w *watchers) join(account string) *topic {
	w.mu.Lock()
	defer w.mu.Unlock()
	t := w.topics[account]
	if t == nil {
		t = &topic{watchers: w, changed: make(chan struct{})}
		w.topics[account] = t
	}
	t.streams++
	return t
}

func (w *watchers) leave(account string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	t := w.topics[account]
	if t.streams--; t.streams == 0 {
		delete(w.topics, account)
	}
}

// next returns a channel that is closed when the account gets its next entry.
func (t *topic) next() <-chan struct{} {
	t.watchers.mu.Lock()
	defer t.watchers.mu.Unlock()
	return t.changed
}

// announce tells how many entries accounts have now. Those that have no more than was known are left asleep.
func (w *watchers) announce(entries map[string]int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for account, n := range entries {
		if t := w.topics[account]; t != nil && n > t.entries {
			t.entries = n
			t.wake()
		}
	}
}

// tell announces what a transaction came to. Where nobody knows whether it was committed, streams look for themselves; the
// counts, which may be wrong, are not taken for known.
func (w *watchers) tell(entries map[string]int64, err error) {
	switch {
	case err == nil:
		w.announce(entries)
	case errors.Is(err, store.ErrOutcomeUnknown):
		w.mu.Lock()
		defer w.mu.Unlock()
		for account := range entries {
			if t := w.topics[account]; t != nil {
				t.wake()
			}
		}
	}
}

// wake wakes the streams of the topic, whose lock is held.
func (t *topic) wake() {
	close(t.changed)
	t.changed = make(chan struct{})
}

// watched returns the accounts of all topics, in batches.
func (w *watchers) watched(batch int) [][]string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Collect(slices.Chunk(slices.Collect(maps.Keys(w.topics)), batch))
}

// poll looks for entries that other replicas made, until ctx ends.
func (w *watchers) poll(ctx context.Context, every time.Duration, counts func(context.Context, []string) (map[string]int64, error), log *slog.Logger) {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			w.pollOnce(ctx, counts, log)
		case <-ctx.Done():
			return
		}
	}
}

// pollBatch is how many accounts one query asks about.
const pollBatch = 1000

// pollOnce asks how many entries the watched accounts have, and wakes those that have more than before.
func (w *watchers) pollOnce(ctx context.Context, counts func(context.Context, []string) (map[string]int64, error), log *slog.Logger) {
	for _, batch := range w.watched(pollBatch) {
		now, err := counts(ctx, batch)
		if err != nil {
			if ctx.Err() == nil {
				log.LogAttrs(ctx, slog.LevelWarn, "cannot look for entries of other replicas; trying again", slog.Any("error", err))
			}
			return
		}
		w.announce(now)
	}
}
