package interceptors

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"example.com/rolecall/interceptors/internal/wire"
)

// guardUnary puts the guard around the handler of a unary method. gRPC calls it before it has read the body, which the
// handler asks for, and before it runs any interceptor, which the handler is given.
func (s *Server) guardUnary(m *method, next grpc.MethodHandler) grpc.MethodHandler {
	return func(impl any, ctx context.Context, body func(any) error, chain grpc.UnaryServerInterceptor) (_ any, err error) {
		defer s.recovered(m, &err)
		c, err := s.admit(ctx, m)
		if err != nil {
			return nil, err
		}
		defer c.limit()()
		c.body = body
		if m.rule.Conditions.ExactlyOnce {
			chain = c.exactlyOnce(chain)
		}
		reply, err := next(impl, c, c.readBody, chain)
		if err != nil || !m.rule.Conditions.Proof && !m.rule.Conditions.ExactlyOnce {
			return reply, err
		}
		return c.answer(reply)
	}
}

// readBody reads the request and decides about it. What takes effect once is counted when its handler is reached.
func (c *call) readBody(request any) (err error) {
	if c.method.rule.Conditions.Proof {
		err = c.readSigned(request)
	} else if err = c.receive(request); err == nil {
		err = c.admitBody(nil)
	}
	if err == nil && !c.method.rule.Conditions.ExactlyOnce {
		c.admitted()
	}
	return err
}

// readSigned reads a request with a proof, which is of its bytes: they are decoded once that was verified.
func (c *call) readSigned(request any) error {
	var captured wire.Captured
	if err := c.receive(&captured); err != nil {
		return err
	}
	if err := c.admitBody(captured.Bytes); err != nil {
		return err
	}
	return decode(captured.Bytes, request)
}

func (c *call) admitBody(body []byte) error {
	if r, detail := c.admitMessage(body); r != allowed {
		return c.refuseWith(r, "call", detail)
	}
	return nil
}

// receive reads the request.
func (c *call) receive(request any) error {
	bodies := &c.conn.use.bodies
	defer bodies.Add(-1)
	if bodies.Add(1) > int64(c.server.guard.options.maxStreams) {
		return c.refuse(rateLimited, "call")
	}
	return c.body(request)
}

// decode decodes a request whose proof was verified, and not before: what nobody has signed reaches no decoder. The error is
// the one of gRPC for a request that is no message.
func decode(body []byte, request any) error {
	if err := wire.Decode(body, request); err != nil {
		return status.Errorf(codes.Internal, "interceptors: error unmarshalling request: %v", err)
	}
	return nil
}
