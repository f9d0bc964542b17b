package interceptors

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"example.com/rolecall/interceptors/internal/feature"
	"example.com/rolecall/interceptors/internal/wire"
)

// exactlyOnce puts what answers repeated requests around the caller's interceptors and the handler.
func (c *call) exactlyOnce(chain grpc.UnaryServerInterceptor) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, request any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		message, ok := request.(proto.Message)
		if !ok {
			return nil, c.fault(fmt.Errorf("the request is a %T", request))
		}
		once := &feature.OnceCall{Method: c.method.full, Peer: c.conn.ID.String(), Message: message}
		if c.user != nil {
			once.User = User{c}.Key()
		}
		if c.method.rule.Conditions.Proof {
			p := c.proof.Load()
			if p == nil {
				return nil, c.refuse(proofRequired, "call")
			}
			once.Proof, once.Signer = p.Proof, p.Signer.String()
		}
		var admitted sync.Once
		standing := allowed // when the last attempt began
		run := func(ctx context.Context) (_ proto.Message, err error) {
			reached := false
			defer func() {
				if err != nil && !reached {
					err = feature.Unreached{Err: err}
				}
			}()
			defer c.server.recovered(c.method, &err)
			// The request may have waited for its transaction, and what was taken away meanwhile counts.
			if standing = c.decide(); standing != allowed {
				return nil, standing.err(nil)
			}
			admitted.Do(c.admitted)
			// An attempt that is run again finds the message as it came.
			own := proto.Clone(message)
			var reply any
			inner := func(ctx context.Context, request any) (any, error) {
				reached = true
				return handler(ctx, request)
			}
			if chain != nil {
				reply, err = chain(ctx, own, info, inner)
			} else {
				reply, err = inner(ctx, own)
			}
			if err != nil {
				return nil, err
			}
			return c.message(reply)
		}
		response, verdict, detail, err := c.server.guard.once.Do(ctx, once, run)
		if standing != allowed {
			return nil, c.refuse(standing, "call")
		}
		if r := requestReason(verdict); r != allowed {
			return nil, c.refuseWith(r, "call", detail)
		}
		admitted.Do(c.admitted)
		var unreached feature.Unreached
		if errors.As(err, &unreached) {
			err = unreached.Err
		}
		if err != nil {
			return nil, err
		}
		return &wire.Raw{Bytes: response}, nil
	}
}

// answer makes the response the bytes that are sent, and adds the receipt for them where the method asks for proofs.
func (c *call) answer(reply any) (any, error) {
	raw, isRaw := reply.(*wire.Raw)
	if c.method.rule.Conditions.ExactlyOnce != isRaw {
		return nil, c.fault(errors.New("the handler that is registered passes its interceptor by: generate the code again"))
	}
	if !c.method.rule.Conditions.Proof {
		return raw, nil
	}
	p := c.proof.Load()
	if p == nil {
		return nil, c.fault(errors.New("the handler that is registered has not read its request: generate the code again"))
	}
	if !isRaw {
		message, err := c.message(reply)
		if err != nil {
			return nil, err
		}
		raw = &wire.Raw{}
		if raw.Bytes, err = proto.Marshal(message); err != nil {
			return nil, c.fault(fmt.Errorf("marshal the response: %w", err))
		}
	}
	receipt, err := c.server.guard.proofs.Receipt(p.Proof, raw.Bytes)
	if err != nil {
		c.server.guard.log.Error("a response could not be signed", "method", c.method.full, "error", err)
		return nil, status.Error(codes.Unavailable, "the request has taken effect, but its receipt could not be signed")
	}
	if err := grpc.SetTrailer(c.Context, metadata.Pairs(receiptKey, receipt)); err != nil {
		return nil, c.fault(fmt.Errorf("send the receipt: %w", err))
	}
	return raw, nil
}

// fault logs a mistake in what is registered at the server, and returns a bare INTERNAL.
func (c *call) fault(err error) error {
	c.server.guard.log.Error("a call failed", "method", c.method.full, "error", err)
	return panicked.err(nil)
}

// message returns what a handler answered with, which may be anything.
func (c *call) message(reply any) (proto.Message, error) {
	if m, ok := reply.(proto.Message); ok {
		return m, nil
	}
	return nil, c.fault(fmt.Errorf("the handler answered with a %T", reply))
}
