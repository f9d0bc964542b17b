package exactlyonce

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"time"
)

// Bounds of how long a saga that could not be finished waits for its next attempt.
const (
	firstPause = time.Second
	lastPause  = 5 * time.Minute
)

// lease keeps others from a saga while its handler runs.
type lease struct {
	stop  context.CancelFunc
	ended chan struct{}
}

// renew keeps the lease of a saga that has begun, until it is released. A handler whose saga was taken over all the
// same is told by the end of its context; what it cannot do any more is finish.
func (r *Requests) renew(s *Saga) *lease {
	ctx, stop := context.WithCancel(context.Background())
	l := &lease{stop: stop, ended: make(chan struct{})}
	r.counts.sagas.Add(1)
	go func() {
		defer close(l.ended)
		tick := time.NewTicker(r.config.Lease / 3)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
			within, cancel := context.WithTimeout(ctx, r.config.Lease)
			ours, err := s.extend(within, r.config.Lease)
			cancel()
			switch {
			case err != nil && ctx.Err() == nil:
				r.log.LogAttrs(ctx, slog.LevelWarn, "the lease of a saga could not be renewed", slog.String("method", s.request.key.Method), slog.Any("error", err))
			case err == nil && !ours:
				s.lost(errLost)
				return
			}
		}
	}()
	return l
}

// extend moves the end of the lease to a time from now. ours: nobody has taken the saga over.
func (s *Saga) extend(ctx context.Context, by time.Duration) (ours bool, err error) {
	err = s.requests.write(ctx, func(ctx context.Context, t *transaction) error {
		ours = true
		changed, err := t.change(ctx, "UPDATE rolecall_requests SET lease_us = "+t.clock()+" + $1 WHERE key = $2 AND fence = $3 AND state = 'RUNNING'",
			by.Microseconds(), s.request.sum[:], s.fence)
		if err != nil || changed {
			return err
		}
		taken, err := s.taken(ctx, t)
		ours = !taken
		return err
	})
	return ours, err
}

// release ends the renewal. A saga that was not finished gets its next attempt after a pause, of which each is longer.
func (s *Saga) release() {
	if s.lease == nil {
		return
	}
	s.lease.stop()
	<-s.lease.ended
	s.requests.counts.sagas.Add(-1)
	if s.answer != nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), endTimeout)
	defer cancel()
	if _, err := s.extend(ctx, pause(s.Attempt())); err != nil {
		s.requests.log.LogAttrs(ctx, slog.LevelWarn, "the lease of a saga could not be released, it ends by itself",
			slog.String("method", s.request.key.Method), slog.Any("error", err))
	}
}

// pause lies between an attempt and the next one: doubled with each, and spread, so that many do not come at once.
func pause(attempt int) time.Duration {
	longest := min(firstPause<<min(attempt-1, 20), lastPause)
	return longest/2 + rand.N(longest/2)
}
