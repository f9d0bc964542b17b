package tokens

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	tokensv1 "example.com/rolecall/gen/tokens/v1"
	"example.com/rolecall/interceptors"
)

const (
	// watchBatch is how many revocations a stream reads at once: the most it holds in memory.
	watchBatch = 200
	// watchStall is how long one message may wait for a reader.
	watchStall = 30 * time.Second
	// leaveInterval is how often callers who know more than the database have all streams begin anew, at most.
	leaveInterval = 10 * time.Minute
)

var (
	errStopping = status.Error(codes.Unavailable, "the server is stopping: watch again, after the last sequence number")
	errNewEpoch = status.Error(codes.Unavailable, "the database was put back from a copy: watch again, from the start")
	errStalled  = status.Error(codes.Aborted, "nobody reads the stream: watch again, after the last sequence number")
)

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
	w := &watch{service: s, stream: stream, epoch: now.epoch}
	if req.GetEpoch() == now.epoch {
		if req.GetAfterSequence() > now.sequence {
			// The caller knows of revocations that this database does not: it is an older copy.
			// The word of one caller, who may lie, ends the streams of all: not more often than this.
			if at, last := s.now().UnixNano(), s.left.Load(); (last == 0 || at-last > int64(leaveInterval) || at < last) && s.left.CompareAndSwap(last, at) {
				if err := s.tables.leave(ctx, now.epoch); err != nil {
					return s.status(ctx, "begin an epoch", err)
				}
				s.log.LogAttrs(ctx, slog.LevelWarn, "a verifier knows of revocations that the database does not: all begin anew",
					slog.String("verifier", interceptors.CallerFrom(ctx).ID().String()))
			}
			return errNewEpoch
		}
		w.sequence = req.GetAfterSequence()
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
	look := time.NewTicker(watchStall / 10)
	defer look.Stop()
	for {
		select {
		case err := <-ended:
			return err
		case p := <-panicked:
			panic(p) // here the guard recovers
		case <-look.C:
			if since := w.sending.Load(); since != 0 && time.Since(time.Unix(0, since)) > watchStall {
				return errStalled
			}
		case <-s.stopping:
			return errStopping
		case <-ctx.Done():
			return status.FromContextError(ctx.Err()).Err()
		}
	}
}

// watch is one stream.
type watch struct {
	service  *Service
	stream   grpc.ServerStreamingServer[tokensv1.WatchRevocationsResponse]
	epoch    string
	sequence int64                // of the last revocation that was sent
	keys     *tokensv1.SignedKeys // as they were sent
	sending  atomic.Int64         // since when a message waits; nanoseconds since 1970, 0 for none
}

func (w *watch) run(ctx context.Context) error {
	alive := time.NewTicker(w.service.config.Heartbeat)
	defer alive.Stop()
	for complete := false; ; {
		changed := w.service.tables.changed.next() // taken before reading: what comes after the read closes it
		now, err := w.service.tables.position(ctx)
		if err != nil {
			return w.service.status(ctx, "watch revocations", err)
		}
		if now.epoch != w.epoch {
			return errNewEpoch
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
func (w *watch) send(m *tokensv1.WatchRevocationsResponse) error {
	m.Epoch, m.Sequence = w.epoch, w.sequence
	w.sending.Store(time.Now().UnixNano())
	defer w.sending.Store(0)
	return w.stream.Send(m)
}

// sendKeys sends the keys if they are not those that were sent.
func (w *watch) sendKeys(ctx context.Context, version int64) error {
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

func (w *watch) sendRevoked(ctx context.Context) error {
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
