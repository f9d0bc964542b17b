package demo

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
)

const (
	// recorded bounds what is kept of each direction of a connection, in bytes.
	recorded = 1 << 20
	// chatter is more bytes than what HTTP/2 says of its own accord: acknowledgements and window updates, in TLS records.
	// Requests and answers of the tour are longer.
	chatter = 160
)

// relay is Eve on the way between clients and a server. It passes TCP connections on and keeps a copy of what goes by; it
// can stop passing without telling anybody, and turn a bit over. It holds no key and no certificate.
type relay struct {
	listener net.Listener
	to       string
	stop     context.CancelFunc
	working  sync.WaitGroup

	requests, answers way

	mu   sync.Mutex
	taps []*tap
}

// tap is what was recorded of one connection, in the order of connections.
type tap struct {
	mu             sync.Mutex
	sent, received []byte // by the client
}

// way is one direction of all connections.
type way struct {
	mu     sync.Mutex
	closed chan struct{} // nil: open
	turn   bool          // the next bytes that are more than chatter get a bit turned over
}

// newRelay listens on a free port of the loopback. It must be closed.
func newRelay(ctx context.Context, to string) (*relay, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("relay to %s: %w", to, err)
	}
	r := &relay{listener: listener, to: to}
	ctx, r.stop = context.WithCancel(ctx)
	context.AfterFunc(ctx, func() { _ = listener.Close() })
	r.working.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			r.working.Go(func() { r.serve(ctx, conn) })
		}
	})
	return r, nil
}

func (r *relay) address() string { return r.listener.Addr().String() }

// close ends all connections. Calls after the first do nothing.
func (r *relay) close() {
	r.stop()
	r.working.Wait()
}

// serve passes one connection on, until both sides have ended it.
func (r *relay) serve(ctx context.Context, client net.Conn) {
	defer client.Close() //nolint:errcheck // there is nothing more to say
	server, err := (&net.Dialer{}).DialContext(ctx, "tcp", r.to)
	if err != nil {
		return
	}
	defer server.Close() //nolint:errcheck // likewise
	defer context.AfterFunc(ctx, func() { _, _ = client.Close(), server.Close() })()
	t := &tap{}
	r.mu.Lock()
	r.taps = append(r.taps, t)
	r.mu.Unlock()
	var both sync.WaitGroup
	both.Go(func() { r.requests.pump(ctx, client, server, t, &t.sent) })
	both.Go(func() { r.answers.pump(ctx, server, client, t, &t.received) })
	both.Wait()
}

// pump passes on what comes from one side, and that it has ended.
func (w *way) pump(ctx context.Context, from, to net.Conn, t *tap, record *[]byte) {
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		t.keep(record, buffer[:n])
		if n > 0 {
			if w.pass(ctx, buffer[:n]) != nil {
				return
			}
			if _, writeErr := to.Write(buffer[:n]); writeErr != nil {
				err = errors.Join(err, writeErr)
			}
		}
		if err != nil {
			if half, ok := to.(*net.TCPConn); ok {
				_ = half.CloseWrite()
			}
			return
		}
	}
}

// pass waits while the way is closed, and turns a bit of the bytes over if that is their turn.
func (w *way) pass(ctx context.Context, data []byte) error {
	for {
		w.mu.Lock()
		closed := w.closed
		if closed == nil {
			if w.turn && len(data) > chatter {
				w.turn = false
				data[len(data)-1] ^= 1
			}
			w.mu.Unlock()
			return nil
		}
		w.mu.Unlock()
		select {
		case <-closed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// shut closes the way: nothing gets through, and nobody is told.
func (w *way) shut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed == nil {
		w.closed = make(chan struct{})
	}
}

// open lets through what waits, and what comes.
func (w *way) open() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed != nil {
		close(w.closed)
		w.closed = nil
	}
}

// turnOver turns a bit over in the next request or answer that comes this way.
func (w *way) turnOver() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.turn = true
}

func (t *tap) keep(record *[]byte, data []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	*record = append(*record, data[:min(len(data), recorded-len(*record))]...)
}

// conversation returns copies of what a connection has carried so far.
func (t *tap) conversation() (sent, received []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append([]byte(nil), t.sent...), append([]byte(nil), t.received...)
}

// connections returns those that there were, oldest first.
func (r *relay) connections() []*tap {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]*tap(nil), r.taps...)
}
