package interceptors_test

import (
	"net"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	ledgerv1 "example.com/rolecall/gen/ledger/v1"
	"example.com/rolecall/interceptors"
)

func limits(connections, streams int) func(*meshConfig) {
	return func(c *meshConfig) {
		c.options = append(c.options, interceptors.PeerLimits(connections, streams))
	}
}

func TestAPeersConnectionsAreLimited(t *testing.T) {
	t.Parallel()
	m := newMesh(t, limits(2, 10))
	cert := m.cert(m.ca.Issue(reader))
	first, _ := m.wire(t, cert), m.wire(t, m.cert(m.ca.Issue(reader))) // another certificate, the same peer
	eventually(t, "two connections", func() bool { return m.server.Books().Connections == 2 })
	handshake.check(t, m.shake(t, cert, nil))
	m.audit.find(t, map[string]any{"event": "handshake", "verdict": "denied", "reason": "too_many_connections", "claimed_id": "spiffe://mesh.local/service/reader"})
	must(t, m.shake(t, m.cert(m.ca.Issue(writer)), nil))
	must(t, first.conn.Close())
	eventually(t, "place for another connection", func() bool { return m.shake(t, cert, nil) == nil })
}

func TestAPeersStreamsAreLimitedOverAllItsConnections(t *testing.T) {
	t.Parallel()
	m := newMesh(t, limits(10, 2))
	watch(t, m.dial(reader))
	second := watch(t, m.dial(reader))
	conn := m.dial(reader)
	stream, err := ledgerv1.NewLedgerServiceClient(conn).WatchEntries(timeout(t), &ledgerv1.WatchEntriesRequest{})
	must(t, err)
	_, err = stream.Recv()
	refused(t, err, codes.ResourceExhausted, "RATE_LIMITED")
	asksToWait(t, err, stream.Trailer())
	watch(t, m.dial(writer))
	must(t, second.CloseSend())
	if n := m.server.Books().Streams; n != 3 {
		t.Errorf("the server counts %d streams", n)
	}
}

// asksToWait checks what tells a client, and gRPC's own retry, when to come again.
func asksToWait(t *testing.T, err error, trailer metadata.MD) {
	t.Helper()
	var wait time.Duration
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.RetryInfo); ok {
			wait = info.GetRetryDelay().AsDuration()
		}
	}
	if pushback := trailer.Get("grpc-retry-pushback-ms"); wait != time.Second || len(pushback) != 1 || pushback[0] != "1000" {
		t.Errorf("got RetryInfo %s and pushback %v ms, want a second in both", wait, pushback)
	}
}

// TestUnaryCallsThatWaitForTheirBodiesAreLimited sends the headers of calls and no more, which costs the server a
// goroutine for each.
func TestUnaryCallsThatWaitForTheirBodiesAreLimited(t *testing.T) {
	t.Parallel()
	m := newMesh(t, limits(10, 3))
	w := m.wire(t, m.cert(m.ca.Issue(reader)))
	waiting := map[uint32]bool{}
	for range 4 {
		waiting[w.ask(getBalance)] = true
	}
	ended, err := w.answer()
	must(t, err)
	refused(t, ended.err, codes.ResourceExhausted, "RATE_LIMITED")
	trailer := metadata.MD{}
	for _, field := range ended.fields {
		trailer.Append(field.Name, field.Value)
	}
	asksToWait(t, ended.err, trailer)
	delete(waiting, ended.stream)
	for stream := range waiting {
		w.say(stream)
		ended, err := w.answer()
		must(t, err)
		must(t, ended.err)
	}
	eventually(t, "end of the waiting", func() bool { return m.server.Books().Bodies == 0 })
	w.say(w.ask(getBalance))
	ended, err = w.answer()
	must(t, err)
	must(t, ended.err)
}

func TestTheBooksAreEmptyWhenEverybodyHasGone(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	var conns []*grpc.ClientConn
	for _, path := range []string{reader, reader, writer} {
		conn := m.dial(path)
		watch(t, conn)
		conns = append(conns, conn)
	}
	if got, want := m.server.Books(), (interceptors.Books{Connections: 3, Peers: 2, Streams: 3}); got != want {
		t.Errorf("got books %+v, want %+v", got, want)
	}
	for _, conn := range conns {
		must(t, conn.Close())
	}
	eventually(t, "empty books", func() bool { return m.server.Books() == interceptors.Books{} })
}

// TestAHandlerCountsUntilItReturns has one that does not care that its caller has gone.
func TestAHandlerCountsUntilItReturns(t *testing.T) {
	t.Parallel()
	m := newMesh(t, limits(10, 1))
	release := make(chan struct{})
	m.ledger.watch = func(stream grpc.ServerStreamingServer[ledgerv1.WatchEntriesResponse]) error {
		err := stream.Send(&ledgerv1.WatchEntriesResponse{})
		<-release
		return err
	}
	conn := m.dial(reader)
	watch(t, conn)
	must(t, conn.Close())
	eventually(t, "peer without a connection", func() bool {
		return m.server.Books() == interceptors.Books{Peers: 1, Streams: 1}
	})
	conn = m.dial(reader)
	_, err := watchOnce(t, conn)
	refused(t, err, codes.ResourceExhausted, "RATE_LIMITED")
	must(t, conn.Close())
	close(release)
	eventually(t, "empty books", func() bool { return m.server.Books() == interceptors.Books{} })
}

// TestAConnectionThatIsResetAfterItsHandshakeLeavesTheBooks asks for what made gRPC lose track of such connections.
func TestAConnectionThatIsResetAfterItsHandshakeLeavesTheBooks(t *testing.T) {
	t.Parallel()
	m := newMesh(t, func(c *meshConfig) { c.grpc = []grpc.ServerOption{grpc.WriteBufferSize(0)} })
	cert := m.cert(m.ca.Issue(reader))
	for range 100 {
		conn, err := m.tls(t, cert, nil)
		must(t, err)
		tcp := conn.NetConn().(*net.TCPConn)
		must(t, tcp.SetLinger(0))
		must(t, tcp.Close())
	}
	must(t, m.shake(t, m.cert(m.ca.Issue(writer)), nil))
	eventually(t, "books with the writer alone", func() bool {
		return m.server.Books() == interceptors.Books{Connections: 1, Peers: 1}
	}, func() any { return m.server.Books() })
}
