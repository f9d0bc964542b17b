package interceptors

import (
	"context"

	"google.golang.org/grpc"
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
		return next(impl, c, c.readBody, chain)
	}
}

// readBody decodes the request and decides again: a peer may take as long for the body as it likes.
func (c *call) readBody(request any) error {
	bodies := &c.conn.use.bodies
	defer bodies.Add(-1)
	if bodies.Add(1) > int64(c.server.guard.options.maxStreams) {
		return c.refuse(rateLimited, "call")
	}
	if err := c.body(request); err != nil {
		return err
	}
	if r := c.decide(); r != allowed {
		return c.refuse(r, "call")
	}
	c.admitted()
	return nil
}
