package keys

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	keysv1 "example.com/rolecall/gen/keys/v1"
	"example.com/rolecall/interceptors"
	"example.com/rolecall/internal/refusal"
	"example.com/rolecall/internal/watch"
)

// watchBatch is how many keys a stream reads at once: the most it holds in memory.
const watchBatch = 100

var errWatchers = refusal.New(codes.ResourceExhausted, refusal.RateLimited, "this workload watches as many times as it may: end another stream first", time.Second)

// WatchKeys sends the keys that have not expired, says that these were all, and goes on with each as it is announced. It keeps
// nothing for a reader who is slow, who gets it from the database when the time has come, and gives up on one who does not
// read at all. It ends with UNAVAILABLE when the server stops.
func (s *Service) WatchKeys(req *keysv1.WatchKeysRequest, stream grpc.ServerStreamingServer[keysv1.WatchKeysResponse]) error {
	ctx := stream.Context()
	if req.GetAfterSequence() < 0 {
		return interceptors.InvalidField("after_sequence", "must not be negative")
	}
	caller := interceptors.CallerFrom(ctx).ID().String()
	if !s.watchers.enter(caller) {
		return errWatchers
	}
	defer s.watchers.leave(caller)
	now, err := s.directory.position(ctx)
	if err != nil {
		return s.status(ctx, "watch keys", err)
	}
	w := &watching{service: s, stream: stream, at: position{epoch: now.epoch}}
	if req.GetEpoch() == now.epoch {
		if req.GetAfterSequence() > now.sequence {
			return s.ahead(ctx, now.epoch, caller)
		}
		w.at.sequence = req.GetAfterSequence()
	}
	return watch.Run(ctx, s.stopping, func(sending *watch.Sending) error {
		w.sending = sending
		return w.run(ctx)
	})
}

// ahead answers a caller who knows of keys that this database does not.
func (s *Service) ahead(ctx context.Context, epoch, caller string) error {
	left, err := s.directory.epochs.Ahead(ctx, epoch, s.config.Now())
	if err != nil {
		return s.status(ctx, "begin an epoch", err)
	}
	if left {
		s.log.LogAttrs(ctx, slog.LevelWarn, "a workload knows of keys that the database does not: all begin anew", slog.String("workload", caller))
	}
	return watch.ErrNewEpoch
}

// watching is one stream.
type watching struct {
	service *Service
	stream  grpc.ServerStreamingServer[keysv1.WatchKeysResponse]
	sending *watch.Sending
	at      position // of the last message
}

func (w *watching) run(ctx context.Context) error {
	alive := time.NewTicker(w.service.config.Heartbeat)
	defer alive.Stop()
	for complete := false; ; {
		changed := w.service.directory.changed.Next()
		now, err := w.service.directory.position(ctx)
		if err != nil {
			return w.service.status(ctx, "watch keys", err)
		}
		if err := w.service.directory.epochs.Check(ctx, w.at.epoch, w.at.sequence, now.epoch, now.sequence); err != nil {
			return w.service.status(ctx, "watch keys", err)
		}
		if err := w.sendAnnounced(ctx); err != nil {
			return err
		}
		if !complete {
			w.at.sequence, complete = max(w.at.sequence, now.sequence), true
			if err := w.send(&keysv1.WatchKeysResponse{Event: &keysv1.WatchKeysResponse_SnapshotComplete{SnapshotComplete: &keysv1.SnapshotComplete{}}}); err != nil {
				return err
			}
		}
		select {
		case <-changed:
		case <-alive.C:
			if err := w.send(&keysv1.WatchKeysResponse{Event: &keysv1.WatchKeysResponse_Heartbeat{Heartbeat: &keysv1.Heartbeat{}}}); err != nil {
				return err
			}
		case <-ctx.Done():
			return status.FromContextError(ctx.Err()).Err()
		}
	}
}

func (w *watching) send(m *keysv1.WatchKeysResponse) error {
	m.Epoch, m.Sequence = w.at.epoch, w.at.sequence
	return w.sending.Do(func() error { return w.stream.Send(m) })
}

func (w *watching) sendAnnounced(ctx context.Context) error {
	for {
		found, err := w.service.directory.announcedAfter(ctx, w.at.sequence, watchBatch)
		if err != nil {
			return w.service.status(ctx, "watch keys", err)
		}
		for _, k := range found {
			w.at.sequence = k.sequence
			if err := w.send(&keysv1.WatchKeysResponse{Event: &keysv1.WatchKeysResponse_Key{Key: k.message()}}); err != nil {
				return err
			}
		}
		if len(found) < watchBatch {
			return nil
		}
	}
}

// watchers counts the streams of each workload. Safe for concurrent use.
type watchers struct {
	most int

	mu   sync.Mutex
	open map[string]int
}

func newWatchers(most int) *watchers { return &watchers{most: most, open: map[string]int{}} }

// enter counts one more, unless there are too many.
func (w *watchers) enter(id string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.open[id] >= w.most {
		return false
	}
	w.open[id]++
	return true
}

func (w *watchers) leave(id string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.open[id]--; w.open[id] == 0 {
		delete(w.open, id)
	}
}
