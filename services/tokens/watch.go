package tokens

import (
	"context"
	"log/slog"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	tokensv1 "example.com/rolecall/gen/tokens/v1"
	"example.com/rolecall/interceptors"
	"example.com/rolecall/internal/watch"
)

// watchBatch is how many revocations a stream reads at once: the most it holds in memory.
const watchBatch = 200

// WatchRevocations sends the keys and what is revoked, says that this was all, and goes on with each change as it happens. It
// keeps nothing for a reader who is slow, who gets it from the database when the time has come, and gives up on one who does
// not read at all. It ends with UNAVAILABLE when the server stops.
func (s *Service) WatchRevocations(req *tokensv1.WatchRevocationsRequest, stream grpc.ServerStreamingServer[tokensv1.WatchRevocationsResponse]) error {
	ctx := stream.Context()
	if req.GetAfterSequence() < 0 {
		return interceptors.InvalidField("after_sequence", "must not be negative")
	}
	now, err := s.tables.position(ctx)
	if err != nil {
		return s.status(ctx, "watch revocations", err)
	}
	w := &watching{service: s, stream: stream, epoch: now.epoch}
	if req.GetEpoch() == now.epoch {
		if req.GetAfterSequence() > now.sequence {
			// The caller knows of revocations that this database does not: it is an older copy.
			left, err := s.tables.epochs.Ahead(ctx, now.epoch, s.now())
			if err != nil {
				return s.status(ctx, "begin an epoch", err)
			}
			if left {
				s.log.LogAttrs(ctx, slog.LevelWarn, "a verifier knows of revocations that the database does not: all begin anew",
					slog.String("verifier", interceptors.CallerFrom(ctx).ID().String()))
			}
			return watch.ErrNewEpoch
		}
		w.sequence = req.GetAfterSequence()
	}
	return watch.Run(ctx, s.stopping, func(sending *watch.Sending) error {
		w.sending = sending
		return w.run(ctx)
	})
}

// watching is one stream.
type watching struct {
	service  *Service
	stream   grpc.ServerStreamingServer[tokensv1.WatchRevocationsResponse]
	epoch    string
	sequence int64                // of the last revocation that was sent
	keys     *tokensv1.SignedKeys // as they were sent
	sending  *watch.Sending
}

func (w *watching) run(ctx context.Context) error {
	alive := time.NewTicker(w.service.config.Heartbeat)
	defer alive.Stop()
	for complete := false; ; {
		changed := w.service.tables.changed.Next() // taken before reading: what comes after the read closes it
		now, err := w.service.tables.position(ctx)
		if err != nil {
			return w.service.status(ctx, "watch revocations", err)
		}
		if err := w.service.tables.epochs.Check(ctx, w.epoch, w.sequence, now.epoch, now.sequence); err != nil {
			return w.service.status(ctx, "watch revocations", err)
		}
		if err := w.sendKeys(ctx, now.keys); err != nil {
			return err
		}
		if err := w.sendRevoked(ctx); err != nil {
			return err
		}
		if !complete {
			w.sequence, complete = max(w.sequence, now.sequence), true
			if err := w.send(&tokensv1.WatchRevocationsResponse{Change: &tokensv1.WatchRevocationsResponse_SnapshotComplete{
				SnapshotComplete: &tokensv1.SnapshotComplete{},
			}}); err != nil {
				return err
			}
		}
		select {
		case <-changed:
		case <-alive.C:
			if err := w.send(&tokensv1.WatchRevocationsResponse{Change: &tokensv1.WatchRevocationsResponse_Heartbeat{
				Heartbeat: &tokensv1.Heartbeat{},
			}}); err != nil {
				return err
			}
		case <-ctx.Done():
			return status.FromContextError(ctx.Err()).Err()
		}
	}
}

// send sends a message that is no revocation, or the one whose number sequence is.
func (w *watching) send(m *tokensv1.WatchRevocationsResponse) error {
	m.Epoch, m.Sequence = w.epoch, w.sequence
	return w.sending.Do(func() error { return w.stream.Send(m) })
}

// sendKeys sends the keys if they are not those that were sent.
func (w *watching) sendKeys(ctx context.Context, version int64) error {
	keys, err := w.service.keys.signed(ctx, version)
	if err != nil {
		return w.service.status(ctx, "sign the keys", err)
	}
	if keys == w.keys {
		return nil
	}
	w.keys = keys
	return w.send(&tokensv1.WatchRevocationsResponse{Change: &tokensv1.WatchRevocationsResponse_Keys{Keys: keys}})
}

func (w *watching) sendRevoked(ctx context.Context) error {
	for {
		found, err := w.service.tables.revokedAfter(ctx, w.sequence, w.service.now(), watchBatch)
		if err != nil {
			return w.service.status(ctx, "watch revocations", err)
		}
		for _, r := range found {
			w.sequence = r.sequence
			if err := w.send(r.message(w.epoch)); err != nil {
				return err
			}
		}
		if len(found) < watchBatch {
			return nil
		}
	}
}
