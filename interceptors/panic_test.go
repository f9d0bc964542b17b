package interceptors_test

import (
	"bytes"
	"context"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	ledgerv1 "example.com/rolecall/gen/ledger/v1"
	"example.com/rolecall/interceptors"
)

func TestAPanicOfAHandlerIsABareInternalError(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	m.ledger.getBalance = func(context.Context) error { panic("secret 4711") }
	m.ledger.watch = func(grpc.ServerStreamingServer[ledgerv1.WatchEntriesResponse]) error { panic("secret 4711") }
	conn := m.dial(reader)
	for range 2 {
		err := balance(t, conn)
		refused(t, err, codes.Internal, "INTERNAL")
		if strings.Contains(err.Error(), "4711") {
			t.Errorf("the caller learns of the panic: %v", err)
		}
		_, err = watchOnce(t, conn)
		refused(t, err, codes.Internal, "INTERNAL")
	}
	eventually(t, "stack in the log", func() bool { return strings.Count(m.log.String(), "secret 4711") == 4 })
}

// brokenClock panics once armed, in every check or only in those of calls and handshakes.
type brokenClock struct{ calls, sweeps atomic.Bool }

func (c *brokenClock) now() time.Time {
	if c.calls.Load() || c.sweeps.Load() {
		if inSweep := bytes.Contains(debug.Stack(), []byte(").sweep(")); inSweep && c.sweeps.Load() || !inSweep && c.calls.Load() {
			panic("the clock is broken")
		}
	}
	return time.Now()
}

func TestPanicInACheckRefusesTheCall(t *testing.T) {
	t.Parallel()
	clock := &brokenClock{}
	m := newMesh(t, func(c *meshConfig) { c.options = []interceptors.Option{interceptors.WithClock(clock.now)} })
	// Connected, but nothing has been decided about them yet.
	unary, stream := connected(t, m.dial(reader)), connected(t, m.dial(reader))
	clock.calls.Store(true)
	refused(t, balance(t, unary), codes.Internal, "INTERNAL")
	_, err := watchOnce(t, stream)
	refused(t, err, codes.Internal, "INTERNAL")
	handshake.check(t, m.shake(t, m.cert(m.ca.Issue(reader)), nil))
	if n := m.ledger.reached.Load(); n != 0 {
		t.Errorf("a handler was reached %d times", n)
	}
	m.audit.find(t, map[string]any{"verdict": "denied", "reason": "INTERNAL", "method": "/ledger.v1.LedgerService/GetBalance"})
}

func TestPanicInACheckOfAnOpenStreamClosesItsConnection(t *testing.T) {
	t.Parallel()
	clock := &brokenClock{}
	m := newMesh(t, func(c *meshConfig) { c.options = []interceptors.Option{interceptors.WithClock(clock.now)} })
	conn := m.dial(reader)
	stream := watch(t, conn)
	clock.sweeps.Store(true)
	if _, err := stream.Recv(); status.Code(err) != codes.Unavailable {
		t.Fatalf("the stream ended with %v", err)
	}
	clock.sweeps.Store(false)
	eventually(t, "the mesh, working again", func() bool { return balance(t, conn) == nil })
}
