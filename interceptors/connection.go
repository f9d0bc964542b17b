package interceptors

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"example.com/rolecall/interceptors/internal/authz"
	"example.com/rolecall/interceptors/internal/identity"
)

// closeDelay is how long a connection lives after a refusal that ends it: closed at once, the status would be lost.
const closeDelay = 200 * time.Millisecond

// connection is an identity.Conn and what the guard keeps for it.
type connection struct {
	*identity.Conn

	// Of a connection to a server of ours:
	ownDomain bool // the peer is of the guard's own trust domain
	use       *peerUse

	// Of a connection of a client:
	client *client
	shown  shown  // to the server
	judged *state // the last state that the server was found good under; used by opened and then by sweep alone

	verdict atomic.Pointer[verdict]

	mu      sync.Mutex
	streams map[*guardedStream]struct{}
}

// verdict is what one snapshot means for one peer. Immutable.
type verdict struct {
	snapshot *snapshot
	reason   reason
	detail   string
	held     authz.Set
}

func (c *connection) addStream(g *guardedStream) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.streams[g] = struct{}{}
}

func (c *connection) removeStream(g *guardedStream) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.streams, g)
}

func (c *connection) openStreams() []*guardedStream {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Collect(maps.Keys(c.streams))
}

// peerUse counts what one SPIFFE ID has open at a server.
type peerUse struct {
	connections int // guarded by Server.mu
	streams     atomic.Int64
	bodies      atomic.Int64 // unary calls whose request has not arrived
}

// opened takes a connection into the server's books.
func (s *Server) opened(conn *identity.Conn) error {
	c := &connection{Conn: conn, ownDomain: conn.ID.TrustDomain() == s.guard.trustDomain, streams: map[*guardedStream]struct{}{}}
	conn.Tag = c
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.guard.closed.Load() {
		return errClosed
	}
	use := s.peers[conn.ID]
	if use == nil {
		use = &peerUse{}
		s.peers[conn.ID] = use
	}
	if use.connections >= s.guard.options.maxConnections {
		return &identity.HandshakeError{
			Reason:  identity.ReasonTooMany,
			Claimed: conn.ID.String(),
			Err:     fmt.Errorf("%s has %d connections open", conn.ID, use.connections),
		}
	}
	use.connections++
	c.use = use
	s.conns[c] = struct{}{}
	return nil
}

// closed takes it out again.
func (s *Server) closed(conn *identity.Conn) {
	c := conn.Tag.(*connection)
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	c.use.connections--
	if c.use.connections == 0 && c.use.streams.Load() == 0 {
		delete(s.peers, conn.ID)
	}
}

func (s *Server) connections() []*connection {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Keys(s.conns))
}
