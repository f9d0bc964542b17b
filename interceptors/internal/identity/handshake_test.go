package identity

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"

	"example.com/rolecall/internal/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// loopback is credentials of a server and who knocks at it.
type loopback struct {
	t       *testing.T
	lis     net.Listener
	server  *server
	cert    *tls.Certificate // of an honest peer
	refused atomic.Int64
	closed  atomic.Int64
}

func newLoopback(t *testing.T, handshakes int) *loopback {
	t.Helper()
	root, end := newRoot(t, "root"), time.Now().Add(time.Hour)
	peer := root.leaf(t, ledger, end)
	l := &loopback{t: t, cert: &tls.Certificate{Certificate: [][]byte{peer.cert.Raw}, PrivateKey: peer.key}}
	l.server = newServer(Config{
		Source:  source{root.leaf(t, ledger, end), ledger, x509bundle.FromX509Authorities(mesh, []*x509.Certificate{root.cert})},
		Now:     time.Now,
		Opened:  func(*Conn) error { return nil },
		Closed:  func(*Conn) { l.closed.Add(1) },
		Refused: func(net.Addr, *HandshakeError) { l.refused.Add(1) },
	})
	l.server.pending.limit = handshakes
	var err error
	l.lis, err = net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { _ = l.lis.Close() })
	return l
}

// knock connects and has the server begin a handshake; its result comes on the channel.
func (l *loopback) knock() (net.Conn, <-chan error) {
	l.t.Helper()
	client, err := net.Dial("tcp", l.lis.Addr().String())
	must(l.t, err)
	_ = client.SetDeadline(time.Now().Add(handshakeTimeout))
	raw, err := l.lis.Accept()
	must(l.t, err)
	result := make(chan error, 1)
	before := l.pending()
	go func() {
		conn, _, err := l.server.ServerHandshake(raw)
		if err == nil {
			err = errors.Join(conn.Close(), conn.Close())
		}
		result <- err
	}()
	l.t.Cleanup(func() { _ = client.Close() })
	eventually(l.t, "handshake under way", func() bool { return l.pending() > before || before == l.server.pending.limit })
	return client, result
}

func (l *loopback) pending() int {
	l.server.pending.mu.Lock()
	defer l.server.pending.mu.Unlock()
	return l.server.pending.conns.Len()
}

// TestSilentConnectionsDoNotKeepOthersOut holds every place for a handshake with connections that say nothing.
func TestSilentConnectionsDoNotKeepOthersOut(t *testing.T) {
	t.Parallel()
	l := newLoopback(t, 2)
	oldest, oldestResult := l.knock()
	second, secondResult := l.knock()
	client, result := l.knock()
	if err := tls.Client(client, &tls.Config{
		InsecureSkipVerify: true, NextProtos: []string{"h2"}, Certificates: []tls.Certificate{*l.cert},
	}).HandshakeContext(t.Context()); err != nil {
		t.Errorf("an honest peer is kept out: %v", err)
	}
	must(t, <-result)
	if err := <-oldestResult; err == nil {
		t.Error("the connection that was silent for longest passed its handshake")
	}
	if _, err := oldest.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("the connection that was silent for longest ended with %v", err)
	}
	if n := l.pending(); n != 1 {
		t.Errorf("%d places are taken, want that of the other silent connection", n)
	}
	must(t, second.Close())
	if err := <-secondResult; !errors.Is(err, io.EOF) {
		t.Errorf("a connection that was closed before it said anything ended with %v", err)
	}
	if n := l.pending(); n != 0 {
		t.Errorf("%d places are still taken", n)
	}
	if refused, closed := l.refused.Load(), l.closed.Load(); refused != 1 || closed != 1 {
		t.Errorf("%d handshakes were told of as refused and %d connections as closed, want one each", refused, closed)
	}
}

func TestACloneHasTheSameLimit(t *testing.T) {
	t.Parallel()
	if clone := newServer(Config{}).Clone().(*server); clone.pending.limit != maxHandshakes {
		t.Errorf("a clone makes %d handshakes at a time", clone.pending.limit)
	}
}

func TestCredentialsAreForOneSide(t *testing.T) {
	t.Parallel()
	if _, _, err := Server(Config{}).ClientHandshake(context.Background(), "", nil); err == nil {
		t.Error("a client may use the credentials of a server")
	}
	if _, _, err := Client(Config{}, ledger).ServerHandshake(nil); err == nil {
		t.Error("a server may use the credentials of a client")
	}
}
