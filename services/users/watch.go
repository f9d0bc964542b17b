package users

import (
	"context"
	"log/slog"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	usersv1 "example.com/rolecall/gen/users/v1"
	"example.com/rolecall/interceptors"
	"example.com/rolecall/internal/watch"
)

const (
	// watchBatch is how many users a stream reads at once: the most it holds in memory.
	watchBatch = 200
	// watchBack is how old a raise may be that a stream without a sequence number still gets: longer than any token lives.
	watchBack = time.Hour
)

// WatchTokenGenerations sends what was raised, then the marker, then each raise as it happens. Of several raises of one
// user between two messages only the last is told. It ends with UNAVAILABLE when the server stops.
func (s *Service) WatchTokenGenerations(req *usersv1.WatchTokenGenerationsRequest, stream grpc.ServerStreamingServer[usersv1.WatchTokenGenerationsResponse]) error {
	ctx := stream.Context()
	if req.GetAfterSequence() < 0 {
		return interceptors.InvalidField("after_sequence", "must not be negative")
	}
	now, err := s.users.position(ctx)
	if err != nil {
		return s.status(ctx, "watch generations", err)
	}
	w := watching{service: s, stream: stream, at: position{epoch: now.epoch}, since: s.now().Add(-watchBack)}
	if req.GetEpoch() == now.epoch && req.GetAfterSequence() > 0 {
		if req.GetAfterSequence() > now.sequence {
			// The caller knows of raises that this database does not: it is an older copy.
			left, err := s.users.epochs.Ahead(ctx, now.epoch, s.now())
			if err != nil {
				return s.status(ctx, "begin an epoch", err)
			}
			if left {
				s.log.LogAttrs(ctx, slog.LevelWarn, "a workload knows of raises that the database does not: all begin anew",
					slog.String("workload", interceptors.CallerFrom(ctx).ID().String()))
			}
			return watch.ErrNewEpoch
		}
		w.at.sequence, w.since = req.GetAfterSequence(), time.UnixMicro(0)
	}
	return watch.Run(ctx, s.stopping, func(sending *watch.Sending) error {
		w.sending = sending
		return w.run(ctx)
	})
}

// watching is one stream.
type watching struct {
	service *Service
	stream  grpc.ServerStreamingServer[usersv1.WatchTokenGenerationsResponse]
	sending *watch.Sending
	at      position // of the last message
	since   time.Time
}

func (w *watching) run(ctx context.Context) error {
	alive := time.NewTicker(w.service.beat)
	defer alive.Stop()
	marked := false
	for {
		changed := w.service.users.raised.Next() // taken before reading: what comes after the read closes it
		now, err := w.service.users.position(ctx)
		if err != nil {
			return w.service.status(ctx, "watch generations", err)
		}
		if err := w.service.users.epochs.Check(ctx, w.at.epoch, w.at.sequence, now.epoch, now.sequence); err != nil {
			return w.service.status(ctx, "watch generations", err)
		}
		if err := w.sendRaised(ctx); err != nil {
			return err
		}
		if !marked {
			w.at.sequence, marked = max(w.at.sequence, now.sequence), true
			w.since = time.UnixMicro(0) // from here on the sequence number tells what is new, and the clock may be set back
			if err := w.mark(); err != nil {
				return err
			}
		}
		select {
		case <-changed:
		case <-alive.C:
			if err := w.mark(); err != nil {
				return err
			}
		case <-ctx.Done():
			return status.FromContextError(ctx.Err()).Err()
		}
	}
}

// mark says that everything up to here has been sent.
func (w *watching) mark() error {
	return w.send(&usersv1.WatchTokenGenerationsResponse{Sequence: w.at.sequence})
}

func (w *watching) send(m *usersv1.WatchTokenGenerationsResponse) error {
	m.Epoch = w.at.epoch
	return w.sending.Do(func() error { return w.stream.Send(m) })
}

func (w *watching) sendRaised(ctx context.Context) error {
	for {
		found, err := w.service.users.raisedAfter(ctx, w.at.sequence, w.since, watchBatch)
		if err != nil {
			return w.service.status(ctx, "watch generations", err)
		}
		for _, u := range found {
			w.at.sequence = u.raisedSequence
			if err := w.send(&usersv1.WatchTokenGenerationsResponse{
				Sequence: u.raisedSequence, Username: u.username, Generation: u.generation,
			}); err != nil {
				return err
			}
		}
		if len(found) < watchBatch {
			return nil
		}
	}
}
