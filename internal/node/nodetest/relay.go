package nodetest

import (
	"io"
	"net"
	"sync"
	"testing"
)

// Relay is an address that leads to a service which may start later, or be replaced, or be out of reach for a while: two
// services that call each other are told of a relay. Safe for concurrent use.
type Relay struct {
	listener net.Listener

	mu      sync.Mutex
	to      string
	conns   map[net.Conn]struct{}
	running sync.WaitGroup
}

// NewRelay makes a relay that leads nowhere yet: whoever connects is turned away.
func NewRelay(t *testing.T) *Relay {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &Relay{listener: listener, conns: map[net.Conn]struct{}{}}
	r.running.Go(r.accept)
	t.Cleanup(func() {
		_ = listener.Close()
		r.lead("")
		r.running.Wait()
	})
	return r
}

// Target is the relay as a gRPC target.
func (r *Relay) Target() string { return "dns:///" + r.listener.Addr().String() }

// To leads to a service from now on; nil leads nowhere. Connections that are open are cut.
func (r *Relay) To(s *Service) {
	if s == nil {
		r.lead("")
		return
	}
	r.lead(s.Addr)
}

// lead is To with an address.
func (r *Relay) lead(addr string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.to = addr
	for c := range r.conns {
		_ = c.Close()
	}
}

func (r *Relay) accept() {
	for {
		near, err := r.listener.Accept()
		if err != nil {
			return
		}
		r.running.Go(func() { r.pass(near) })
	}
}

// pass copies both ways until one side ends.
func (r *Relay) pass(near net.Conn) {
	defer near.Close() //nolint:errcheck // both sides are done
	to := r.keep(near)
	if to == "" {
		return
	}
	defer r.forget(near)
	far, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	defer far.Close() //nolint:errcheck // both sides are done
	var back sync.WaitGroup
	back.Go(func() {
		_, _ = io.Copy(near, far)
		_ = near.Close()
	})
	_, _ = io.Copy(far, near)
	_ = far.Close()
	back.Wait()
}

// keep remembers a connection to be cut, and returns where it leads.
func (r *Relay) keep(c net.Conn) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.to != "" {
		r.conns[c] = struct{}{}
	}
	return r.to
}

func (r *Relay) forget(c net.Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.conns, c)
}
