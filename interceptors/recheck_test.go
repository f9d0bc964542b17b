package interceptors_test

import (
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	ledgerv1 "example.com/rolecall/gen/ledger/v1"
	"example.com/rolecall/interceptors"
)

// Each place where a call is decided must find out alone: nothing here looks at what is open from outside.

func TestARefusedUnaryCallIsRefusedBeforeItsBodyIsRead(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	w := m.wire(t, m.cert(m.ca.Issue(reader)))
	w.ask("/ledger.v1.LedgerService/Transfer") // and never a body
	ended, err := w.answer()
	must(t, err)
	refused(t, ended.err, codes.PermissionDenied, "ROLE_REQUIRED")
}

func TestARoleTakenAwayBeforeTheBodyArrivesRefusesTheCall(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	m.guard.PauseSweep()
	w := m.wire(t, m.cert(m.ca.Issue(reader)))
	stream := w.ask("/ledger.v1.LedgerService/GetBalance")
	eventually(t, "call that waits for its body", func() bool { return m.server.Books().Bodies == 1 })
	must(t, m.server.PutInForce(noRoles))
	w.say(stream)
	ended, err := w.answer()
	must(t, err)
	refused(t, ended.err, codes.PermissionDenied, "ROLE_REQUIRED")
	if n := m.ledger.reached.Load(); n != 0 {
		t.Errorf("the handler was reached %d times", n)
	}
}

func TestAMessageIsNotSentOnceTheRoleIsGone(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	m.guard.PauseSweep()
	gone, sent := make(chan struct{}), make(chan error, 1)
	m.ledger.watch = func(stream grpc.ServerStreamingServer[ledgerv1.WatchEntriesResponse]) error {
		if err := stream.Send(&ledgerv1.WatchEntriesResponse{}); err != nil {
			return err
		}
		<-gone
		err := stream.Send(&ledgerv1.WatchEntriesResponse{})
		sent <- err
		return err
	}
	stream := watch(t, m.dial(reader))
	must(t, m.server.PutInForce(noRoles))
	close(gone)
	refused(t, <-sent, codes.PermissionDenied, "ROLE_REQUIRED")
	_, err := stream.Recv()
	refused(t, err, codes.PermissionDenied, "ROLE_REQUIRED")
}

func TestAMessageIsNotPassedOnOnceTheRoleIsGone(t *testing.T) {
	t.Parallel()
	m := newMesh(t, bindings(adminRoles))
	m.guard.PauseSweep()
	received := make(chan error, 2)
	m.ledger.importAll = func(stream grpc.ClientStreamingServer[ledgerv1.ImportEntriesRequest, ledgerv1.ImportEntriesResponse]) error {
		for {
			_, err := stream.Recv()
			received <- err
			if err != nil {
				return err
			}
		}
	}
	stream, err := ledgerv1.NewLedgerServiceClient(m.dial("/service/admin")).ImportEntries(timeout(t))
	must(t, err)
	must(t, stream.Send(&ledgerv1.ImportEntriesRequest{}))
	must(t, <-received)
	must(t, m.server.PutInForce(noRoles))
	must(t, stream.Send(&ledgerv1.ImportEntriesRequest{}))
	refused(t, <-received, codes.PermissionDenied, "ROLE_REQUIRED")
	refused(t, stream.RecvMsg(&ledgerv1.ImportEntriesResponse{}), codes.PermissionDenied, "ROLE_REQUIRED")
}

// TestARoleTakenAwayWhileAStreamIsLetInRefusesIt changes the bindings in the middle of the first decision, after which
// the stream is entered where a sweep would find it.
func TestARoleTakenAwayWhileAStreamIsLetInRefusesIt(t *testing.T) {
	t.Parallel()
	var m *mesh
	var armed atomic.Bool
	m = newMesh(t, bindings(adminRoles), func(c *meshConfig) {
		c.options = []interceptors.Option{interceptors.WithClock(func() time.Time {
			if armed.CompareAndSwap(true, false) {
				must(t, m.server.PutInForce(noRoles))
			}
			return time.Now()
		})}
	})
	m.guard.PauseSweep()
	conn := connected(t, m.dial("/service/admin")) // nothing has been decided about it yet
	armed.Store(true)
	// A handler that no message has to pass before it is reached.
	stream, err := ledgerv1.NewLedgerServiceClient(conn).ImportEntries(timeout(t))
	must(t, err)
	refused(t, stream.RecvMsg(&ledgerv1.ImportEntriesResponse{}), codes.PermissionDenied, "ROLE_REQUIRED")
	if n := m.ledger.reached.Load(); n != 0 || armed.Load() {
		t.Errorf("the handler was reached %d times, the bindings still to be changed: %v", n, armed.Load())
	}
	if books := m.server.Books(); books.Streams != 0 {
		t.Errorf("the server still counts %+v", books)
	}
}
