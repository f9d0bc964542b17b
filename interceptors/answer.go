package interceptors

import (
	"errors"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"example.com/rolecall/interceptors/internal/feature"
	"example.com/rolecall/interceptors/internal/wire"
)

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
	if err := grpc.SetTrailer(c.Context, metadata.Pairs(feature.ReceiptKey, receipt)); err != nil {
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
