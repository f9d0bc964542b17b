package watch

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// stall is how long one message may wait for a reader.
const stall = 30 * time.Second

var (
	errStopping = status.Error(codes.Unavailable, "the server is stopping: watch again, after the last sequence number")
	errStalled  = status.Error(codes.Aborted, "nobody reads the stream: watch again, after the last sequence number")
)

// Sending knows whether a message of a stream waits for its reader.
type Sending struct {
	since atomic.Int64 // nanoseconds since 1970, 0 for none
}

// Do sends a message.
func (s *Sending) Do(send func() error) error {
	s.since.Store(time.Now().UnixNano())
	defer s.since.Store(0)
	return send()
}

// Run is the handler of a stream without an end of its own: it runs tell until that returns, until stopping is closed, until
// the caller leaves, or until a message has waited for half a minute. tell sends all messages by the Sending that it is given.
// A panic of tell is one of Run.
func Run(ctx context.Context, stopping <-chan struct{}, tell func(*Sending) error) error {
	sending := &Sending{}
	ended, panicked := make(chan error, 1), make(chan string, 1)
	// A Send that waits for a reader is freed by the end of the handler alone, so it is not the handler that sends.
	go func() {
		defer func() {
			if p := recover(); p != nil {
				panicked <- fmt.Sprintf("%v, while sending: %s", p, debug.Stack())
			}
		}()
		ended <- tell(sending)
	}()
	look := time.NewTicker(stall / 10)
	defer look.Stop()
	for {
		select {
		case err := <-ended:
			return err
		case p := <-panicked:
			panic(p) // here the guard recovers
		case <-look.C:
			if since := sending.since.Load(); since != 0 && time.Since(time.Unix(0, since)) > stall {
				return errStalled
			}
		case <-stopping:
			return errStopping
		case <-ctx.Done():
			return status.FromContextError(ctx.Err()).Err()
		}
	}
}
