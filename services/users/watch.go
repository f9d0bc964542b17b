package users

import (
	"context"
	"fmt"
	"runtime/debug"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	usersv1 "example.com/rolecall/gen/users/v1"
	"example.com/rolecall/interceptors"
)

const (
	// watchBatch is how many users a stream reads at once: the most it holds in memory.
	watchBatch = 200
	// watchBack is how old a raise may be that a stream without a sequence number still gets: longer than any token lives.
	watchBack = time.Hour
)

var (
	errStopping = status.Error(codes.Unavailable, "the server is stopping: watch again, after the last sequence number")
	errNewEpoch = status.Error(codes.Unavailable, "the database was put back from a copy: watch again, from the start")
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
	w := watch{service: s, stream: stream, at: position{epoch: now.epoch}, since: s.now().Add(-watchBack)}
	if req.GetEpoch() == now.epoch && req.GetAfterSequence() > 0 {
		if req.GetAfterSequence() > now.sequence {
			// The caller knows of raises that this database does not: it is an older copy.
			if err := s.users.leave(ctx, now.epoch); err != nil {
				return s.status(ctx, "begin an epoch", err)
			}
			return errNewEpoch
		}
		w.at.sequence, w.since = req.GetAfterSequence(), time.UnixMicro(0)
	}
	ended, panicked := make(chan error, 1), make(chan string, 1)
	// A Send that waits for a reader is freed by the end of the handler alone, so it is not the handler that sends.
	go func() {
		defer func() {
			if p := recover(); p != nil {
				panicked <- fmt.Sprintf("%v, while sending: %s", p, debug.Stack())
			}
		}()
		ended <- w.run(ctx)
	}()
	select {
	case err := <-ended:
		return err
	case p := <-panicked:
		panic(p) // here the guard recovers
	case <-s.stopping:
		return errStopping
	case <-ctx.Done():
		return status.FromContextError(ctx.Err()).Err()
	}
}

// watch is one stream.
type watch struct {
	service *Service
	stream  grpc.ServerStreamingServer[usersv1.WatchTokenGenerationsResponse]
	at      position // of the last message
	since   time.Time
}

func (w *watch) run(ctx context.Context) error {
	alive := time.NewTicker(w.service.beat)
	defer alive.Stop()
	marked := false
	for {
		changed := w.service.users.raised.next() // taken before reading: what comes after the read closes it
		now, err := w.service.users.position(ctx)
		if err != nil {
			return w.service.status(ctx, "watch generations", err)
		}
		if now.epoch != w.at.epoch {
			return errNewEpoch
		}
		if err := w.sendRaised(ctx); err != nil {
			return err
		}
		if !marked {
			w.at.sequence, marked = max(w.at.sequence, now.sequence), true
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
func (w *watch) mark() error {
	return w.stream.Send(&usersv1.WatchTokenGenerationsResponse{Epoch: w.at.epoch, Sequence: w.at.sequence})
}

func (w *watch) sendRaised(ctx context.Context) error {
	for {
		found, err := w.service.users.raisedAfter(ctx, w.at.sequence, w.since, watchBatch)
		if err != nil {
			return w.service.status(ctx, "watch generations", err)
		}
		for _, u := range found {
			w.at.sequence = u.raisedSequence
			if err := w.stream.Send(&usersv1.WatchTokenGenerationsResponse{
				Epoch: w.at.epoch, Sequence: u.raisedSequence, Username: u.username, Generation: u.generation,
			}); err != nil {
				return err
			}
		}
		if len(found) < watchBatch {
			return nil
		}
	}
}
