package orders_test

import (
	"io"
	"net"
	"sync"
	"testing"
)

// wire is the way from orders to ledger. It passes bytes on, swallows what ledger answers, or is cut. Safe for concurrent use.
type wire struct {
	listener net.Listener
	to       string

	mu      sync.Mutex
	cut     bool
	deaf    bool
	conns   map[net.Conn]struct{}
	running sync.WaitGroup
}

func newWire(t *testing.T, to string) *wire {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{listener: listener, to: to, conns: map[net.Conn]struct{}{}}
	w.running.Go(func() {
		for {
			near, err := listener.Accept()
			if err != nil {
				return
			}
			w.running.Go(func() { w.pass(near) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		w.set(true, false)
		w.running.Wait()
	})
	return w
}

func (w *wire) target() string { return "dns:///" + w.listener.Addr().String() }

// mend lets everything pass from now on.
func (w *wire) mend() { w.set(false, false) }

// sever breaks open connections, and lets no new ones come up.
func (w *wire) sever() { w.set(true, false) }

// swallow loses all answers of ledger from now on, on connections that stay open.
func (w *wire) swallow() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.deaf = true
}

// set also breaks the connections that are open.
func (w *wire) set(cut, deaf bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut, w.deaf = cut, deaf
	for c := range w.conns {
		_ = c.Close()
	}
}

// keep remembers a connection to be broken, and tells whether it may come up.
func (w *wire) keep(c net.Conn) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.cut {
		w.conns[c] = struct{}{}
	}
	return !w.cut
}

func (w *wire) forget(c net.Conn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.conns, c)
}

func (w *wire) pass(near net.Conn) {
	defer near.Close() //nolint:errcheck // both sides are done
	if !w.keep(near) {
		return
	}
	defer w.forget(near)
	far, err := net.Dial("tcp", w.to)
	if err != nil {
		return
	}
	defer far.Close() //nolint:errcheck // both sides are done
	var back sync.WaitGroup
	back.Go(func() {
		_, _ = io.Copy(answers{near, w}, far)
		_ = near.Close()
	})
	_, _ = io.Copy(far, near)
	_ = far.Close()
	back.Wait()
}

// answers is the way back.
type answers struct {
	net.Conn
	wire *wire
}

func (a answers) Write(p []byte) (int, error) {
	a.wire.mu.Lock()
	deaf := a.wire.deaf
	a.wire.mu.Unlock()
	if deaf {
		return len(p), nil
	}
	return a.Conn.Write(p)
}
