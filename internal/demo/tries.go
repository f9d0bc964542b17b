package demo

import (
	"context"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/stats"
)

// tries is what became of each try of a client at one method: a client that makes a call again by itself tells its caller
// only how the last one ended. Safe for concurrent use.
type tries struct {
	method string

	mu    sync.Mutex
	ended []error
}

// option makes a client tell.
func (t *tries) option() grpc.DialOption { return grpc.WithStatsHandler(t) }

// take returns how the tries ended, in order, and forgets it.
func (t *tries) take() (ended []error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	ended, t.ended = t.ended, nil
	return ended
}

type triedKey struct{}

// TagRPC implements stats.Handler.
func (t *tries) TagRPC(ctx context.Context, info *stats.RPCTagInfo) context.Context {
	return context.WithValue(ctx, triedKey{}, info.FullMethodName)
}

// HandleRPC implements stats.Handler.
func (t *tries) HandleRPC(ctx context.Context, s stats.RPCStats) {
	if ctx.Value(triedKey{}) != t.method {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if s, ok := s.(*stats.End); ok {
		t.ended = append(t.ended, s.Error)
	}
}

// TagConn implements stats.Handler.
func (t *tries) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

// HandleConn implements stats.Handler.
func (t *tries) HandleConn(context.Context, stats.ConnStats) {}
