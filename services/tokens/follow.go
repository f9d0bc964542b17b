package tokens

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	usersv1 "example.com/rolecall/gen/users/v1"
)

const (
	// followSilence is when a stream of users is taken for dead; users says something every five seconds.
	followSilence = 15 * time.Second
	// followFirst is how soon a stream that ended is opened again; each later try waits twice as long, up to followMost.
	followFirst, followMost = 100 * time.Millisecond, 3 * time.Second
)

// heard is the last message of users.
type heard struct {
	epoch    string
	sequence int64
}

// follow makes each raise that users tells of known to verifiers, until ctx ends. It begins with those of the last hour;
// what is known of these is not told twice.
func (s *Service) follow(ctx context.Context) {
	var at heard
	wait := followFirst
	for lost := false; ; {
		before := at
		err := s.followOnce(ctx, &at)
		if ctx.Err() != nil {
			return
		}
		if at != before {
			wait, lost = followFirst, false
		}
		if !lost {
			s.log.LogAttrs(ctx, slog.LevelWarn, "users cannot be followed; trying again", slog.Any("error", err))
			lost = true
		}
		again := time.NewTimer(wait)
		select {
		case <-again.C:
		case <-ctx.Done():
			again.Stop()
			return
		}
		wait = min(2*wait, followMost)
	}
}

// followOnce follows one stream to its end.
func (s *Service) followOnce(ctx context.Context, at *heard) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	silence := time.AfterFunc(followSilence, cancel)
	defer silence.Stop()
	stream, err := s.users.WatchTokenGenerations(ctx, &usersv1.WatchTokenGenerationsRequest{Epoch: at.epoch, AfterSequence: at.sequence})
	if err != nil {
		return err
	}
	for {
		m, err := stream.Recv()
		if err != nil {
			return err
		}
		silence.Reset(followSilence)
		s.counts.usersHeard()
		if m.GetUsername() != "" {
			if err := s.tables.raised(ctx, m.GetUsername(), m.GetGeneration(), s.now()); err != nil {
				return fmt.Errorf("store a raise: %w", err)
			}
		}
		*at = heard{m.GetEpoch(), m.GetSequence()}
	}
}
