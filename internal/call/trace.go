package call

import (
	"context"
	"sync/atomic"

	"google.golang.org/grpc/stats"
)

// Trace tells what became of the attempts of a call, which a client makes several of by itself. The zero value is ready. Safe
// for concurrent use.
type Trace struct {
	sent   atomic.Bool
	failed atomic.Pointer[error]
}

// Sent tells whether a request has left, whole or in part: else it cannot have taken effect.
func (t *Trace) Sent() bool { return t.sent.Load() }

// Failed returns what the latest attempt that failed ended with; nil if none has.
func (t *Trace) Failed() error {
	if err := t.failed.Load(); err != nil {
		return *err
	}
	return nil
}

type traceKey struct{}

// tracing fills the trace that a call has in its context.
type tracing struct{}

func (tracing) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context { return ctx }

func (tracing) HandleRPC(ctx context.Context, event stats.RPCStats) {
	t, ok := ctx.Value(traceKey{}).(*Trace)
	if !ok {
		return
	}
	switch event := event.(type) {
	case *stats.OutPayload:
		t.sent.Store(true)
	case *stats.End:
		if event.Error != nil {
			t.failed.Store(&event.Error)
		}
	}
}

func (tracing) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

func (tracing) HandleConn(context.Context, stats.ConnStats) {}
