package interceptors

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"example.com/rolecall/interceptors/internal/wire"
)

// stallTimeout is how long a refusal waits for a client that holds up a message of the handler because it does not read
// what was sent to it before. Then its connection is closed: the status would queue behind that data for ever.
const stallTimeout = 5 * time.Second

// interceptStream puts the guard around the handler of a stream. The handler runs in a goroutine of its own, because
// nothing else ends a handler that is blocked in RecvMsg or SendMsg than the return of the interceptor, upon which gRPC
// ends the stream.
func (s *Server) interceptStream(impl any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) (err error) {
	m := s.methods[info.FullMethod]
	if m == nil {
		m = &s.unknown
	}
	defer s.recovered(m, &err)
	c, err := s.admit(stream.Context(), m)
	if err != nil {
		return err
	}
	if use := c.conn.use; use.streams.Add(1) > int64(s.guard.options.maxStreams) {
		s.streamEnded(c.conn)
		return c.refuse(rateLimited, "call")
	}
	g := &guardedStream{ServerStream: stream, call: c, wantsProof: m.rule.Conditions.Proof, ended: make(chan struct{}), sending: make(chan struct{}, 1)}
	g.ctx = grpc.NewContextWithServerTransportStream(c, headers{g})
	c.conn.addStream(g)
	defer c.conn.removeStream(g)
	if err := g.lookAgain(); err != nil { // for a change between the decision and addStream
		s.streamEnded(c.conn)
		return err
	}
	if !g.wantsProof {
		c.admitted()
	}

	done := make(chan error, 1)
	s.handlers.Add(1)
	go func() {
		err := errors.New("the handler ended its goroutine")
		defer s.handlers.Done()
		defer s.streamEnded(c.conn)
		defer func() { done <- err }()
		defer s.recovered(m, &err)
		err = handler(impl, g)
	}()
	select {
	case err := <-done:
		if err == nil && g.unproven() {
			g.end(proofRequired, "call", "the handler has not asked for the request")
		}
		return g.outcome(err)
	case <-g.ended:
		g.waitForReader()
		return g.outcome(nil)
	}
}

func (s *Server) streamEnded(c *connection) {
	if c.use.streams.Add(-1) > 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.use.connections == 0 && c.use.streams.Load() == 0 && s.peers[c.ID] == c.use {
		delete(s.peers, c.ID)
	}
}

// refuseUnknown handles what is not registered. It is never reached: interceptStream refuses a method without policy.
func (s *Server) refuseUnknown(any, grpc.ServerStream) error { return methodNotAnnotated.err(nil) }

// guardedStream is the stream that a handler gets. No message passes it that the decision does not allow at that moment.
type guardedStream struct {
	grpc.ServerStream
	call       *call
	ctx        context.Context
	wantsProof bool          // of the first message
	ended      chan struct{} // closed when the stream is refused
	// sending has a place for the one SendMsg that gRPC allows at a time; whoever ends the stream takes it.
	sending chan struct{}

	proven  atomic.Bool
	once    sync.Once
	reason  reason
	refusal error // set before ended is closed
}

// Context returns the context of the call.
func (g *guardedStream) Context() context.Context { return g.ctx }

// headers is what grpc.SetHeader and its like find in the context of a handler. It is not gRPC's own stream, because
// grpc.SetSendCompressor would write to that without a lock, while a refusal reads it; here it returns an error.
type headers struct{ *guardedStream }

func (h headers) Method() string { return h.call.method.full }

func (h headers) SetTrailer(md metadata.MD) error {
	h.ServerStream.SetTrailer(md)
	return nil
}

// SendMsg sends a message unless the stream has been refused.
func (g *guardedStream) SendMsg(message any) error {
	if g.unproven() {
		g.end(proofRequired, "call", "the handler answers before it has asked for the request")
		return g.outcome(nil)
	}
	if err := g.lookAgain(); err != nil {
		return err
	}
	select {
	case g.sending <- struct{}{}:
	case <-g.ended:
		return g.refusal
	}
	defer func() { <-g.sending }()
	return g.outcome(g.ServerStream.SendMsg(message))
}

// RecvMsg receives a message, and passes it on unless the stream has been refused.
func (g *guardedStream) RecvMsg(message any) error {
	if g.unproven() {
		return g.receiveProven(message)
	}
	if err := g.ServerStream.RecvMsg(message); err != nil {
		return g.outcome(err)
	}
	return g.lookAgain()
}

// receiveProven receives the first message of a stream that wants a proof of it.
func (g *guardedStream) receiveProven(message any) error {
	captured := &wire.Captured{}
	if err := g.ServerStream.RecvMsg(captured); err != nil {
		return g.outcome(err)
	}
	if r, detail := g.call.admitMessage(captured.Bytes); r != allowed {
		g.end(r, "call", detail)
		return g.outcome(nil)
	}
	if err := decode(captured.Bytes, message); err != nil {
		return g.outcome(err)
	}
	g.call.admitted()
	g.proven.Store(true)
	return g.outcome(nil)
}

// unproven tells whether a proof is wanted that has not been verified and used up.
func (g *guardedStream) unproven() bool { return g.wantsProof && !g.proven.Load() }

// lookAgain decides anew, and ends the stream if it is refused.
func (g *guardedStream) lookAgain() error {
	if r := g.call.decide(); r != allowed {
		g.end(r, "stream", "")
	}
	return g.outcome(nil)
}

// end ends the stream with a refusal, which is final, and counted and recorded once.
func (g *guardedStream) end(r reason, event, detail string) {
	g.once.Do(func() {
		defer close(g.ended) // even if recording panics
		g.reason, g.refusal = r, r.err(nil)
		g.refusal = g.call.refuseWith(r, event, detail)
	})
}

// outcome returns the refusal if there is one, else err.
func (g *guardedStream) outcome(err error) error {
	select {
	case <-g.ended:
		return g.refusal
	default:
		return err
	}
}

// waitForReader waits until no message of the handler is on its way, or closes the connection of a client that has not
// read for so long that one is stuck.
func (g *guardedStream) waitForReader() {
	if g.reason.closes() {
		return // the connection is closed anyway
	}
	stalled := time.NewTimer(stallTimeout)
	defer stalled.Stop()
	select {
	case g.sending <- struct{}{}:
	case <-g.ServerStream.Context().Done():
	case <-stalled.C:
		_ = g.call.conn.Close()
	}
}
