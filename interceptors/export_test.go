package interceptors

import (
	"time"

	"example.com/rolecall/interceptors/internal/authz"
)

// WithClock replaces the wall clock.
func WithClock(now func() time.Time) Option {
	return func(o *options) error {
		o.now = now
		return nil
	}
}

// PauseSweep stops looking at what is open, so that a test sees what a call or a message finds out alone. The result
// goes on with it; a guard may also be closed without. Not for concurrent use.
func (g *Guard) PauseSweep() (resume func()) {
	close(g.stop)
	<-g.done
	g.stop = make(chan struct{})
	return func() {
		g.done = make(chan struct{})
		go g.watch()
	}
}

// Apply takes bindings over as if they had been read from the watched file: the next sweep puts them in force.
func (g *Guard) Apply(yaml string) error {
	b, err := authz.ParseBindings([]byte(yaml))
	if err == nil {
		g.applyBindings(b, nil)
	}
	return err
}

// PutInForce makes bindings what calls and messages are decided by, and has nobody look at what is open.
func (s *Server) PutInForce(yaml string) error {
	if err := s.guard.Apply(yaml); err != nil {
		return err
	}
	now := s.guard.state.Load()
	s.snapshot.Store(&snapshot{state: now, policy: s.table.Bind(now.bindings)})
	return nil
}

// Books is what a server keeps of those that are connected.
type Books struct{ Connections, Peers, Streams, Bodies int }

// Books returns the server's present books.
func (s *Server) Books() Books {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := Books{Connections: len(s.conns), Peers: len(s.peers)}
	for _, use := range s.peers {
		b.Streams += int(use.streams.Load())
		b.Bodies += int(use.bodies.Load())
	}
	return b
}
