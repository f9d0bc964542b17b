package proof

import (
	"context"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"example.com/rolecall/interceptors/internal/wire"
)

// stream signs the one request of a server stream.
func (c *client) stream(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	if _, signs := c.signs(ctx, method); !signs {
		return open(ctx, desc, cc, method, opts...)
	}
	if desc.ClientStreams {
		return nil, status.Errorf(codes.Internal, "proof: %s streams requests, and a proof covers one", method)
	}
	return &signedStream{ctx: ctx, method: method, tries: c.tries(method, false), open: func(body []byte) (grpc.ClientStream, error) {
		ctx, p := c.prove(ctx, method, body, opts)
		return open(ctx, desc, cc, method, append(opts[:len(opts):len(opts)], grpc.ForceCodecV2(wire.Codec()), grpc.PerRPCCredentials(p))...)
	}}, nil
}

// signedStream is opened by its request, since the metadata that opens a stream holds the proof of it.
type signedStream struct {
	ctx    context.Context
	method string
	open   func(body []byte) (grpc.ClientStream, error)
	tries  *tries // of RecvMsg alone

	mu       sync.Mutex
	body     []byte
	opened   grpc.ClientStream // nil before
	failed   error
	closed   bool // CloseSend was called
	answered bool // something has come back; of RecvMsg alone
}

// SendMsg implements grpc.ClientStream.
func (s *signedStream) SendMsg(message any) error {
	body, err := marshal(message)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.opened != nil || s.failed != nil {
		return status.Errorf(codes.Internal, "proof: %s takes one request, and a second one was sent", s.method)
	}
	s.body = body
	return s.begin()
}

// begin opens the stream with a proof of its own, and sends the request. Called with the lock held.
func (s *signedStream) begin() error {
	s.opened, s.failed = s.open(s.body)
	if s.failed != nil {
		return s.failed
	}
	return s.opened.SendMsg(&wire.Raw{Bytes: s.body})
}

// now returns the stream once it is open.
func (s *signedStream) now() (grpc.ClientStream, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.failed != nil:
		return nil, s.failed
	case s.opened == nil:
		return nil, status.Errorf(codes.Internal, "proof: %s is opened by its request, which has not been sent yet", s.method)
	}
	return s.opened, nil
}

// RecvMsg implements grpc.ClientStream. A stream that the server has refused before anything happened is opened again as a call
// would be made again, until something has come back.
func (s *signedStream) RecvMsg(message any) error {
	for {
		opened, err := s.now()
		if err != nil {
			return err
		}
		err = opened.RecvMsg(message)
		if s.answered || err == nil || !s.tries.again(s.ctx, err) {
			s.answered = true
			return err
		}
		if err := s.again(); err != nil {
			return err
		}
	}
}

// again opens the stream once more.
func (s *signedStream) again() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	// What is wrong with the stream that was opened its RecvMsg tells.
	if err := s.begin(); err != nil && s.failed != nil {
		return err
	}
	if s.closed {
		return s.opened.CloseSend()
	}
	return nil
}

// CloseSend implements grpc.ClientStream.
func (s *signedStream) CloseSend() error {
	opened, err := s.now()
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	return opened.CloseSend()
}

// Header implements grpc.ClientStream.
func (s *signedStream) Header() (metadata.MD, error) {
	opened, err := s.now()
	if err != nil {
		return nil, err
	}
	return opened.Header()
}

// Trailer implements grpc.ClientStream.
func (s *signedStream) Trailer() metadata.MD {
	opened, err := s.now()
	if err != nil {
		return nil
	}
	return opened.Trailer()
}

// Context implements grpc.ClientStream.
func (s *signedStream) Context() context.Context {
	if opened, err := s.now(); err == nil {
		return opened.Context()
	}
	return s.ctx
}
