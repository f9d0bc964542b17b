package interceptors

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"google.golang.org/grpc"
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
		return (&onceRun{call: c, chain: chain, info: info, handler: handler, message: message}).do(ctx)
	}
}

// onceRun is a request that is to take effect once, on its way to the handler.
type onceRun struct {
	call    *call
	chain   grpc.UnaryServerInterceptor // of the caller's; nil: none
	info    *grpc.UnaryServerInfo
	handler grpc.UnaryHandler
	message proto.Message

	admitted sync.Once
	standing reason // when the last attempt began
}

// do answers the request from what is stored, or has it run.
func (o *onceRun) do(ctx context.Context) (any, error) {
	c := o.call
	once := &feature.OnceCall{Method: c.method.full, Peer: c.conn.ID.String(), Message: o.message}
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
	response, verdict, detail, err := c.server.guard.once.Do(ctx, once, o.run)
	if o.standing != allowed {
		return nil, c.refuse(o.standing, "call")
	}
	if r := c.reasonOf(aboutRequest, verdict); r != allowed {
		return nil, c.refuseWith(r, "call", detail)
	}
	o.admitted.Do(c.admitted)
	var unreached feature.Unreached
	if errors.As(err, &unreached) {
		err = unreached.Err
	}
	if err != nil {
		return nil, err
	}
	return &wire.Raw{Bytes: response}, nil
}

// run is one attempt.
func (o *onceRun) run(ctx context.Context) (_ proto.Message, err error) {
	c, reached := o.call, false
	defer func() {
		if err != nil && !reached {
			err = feature.Unreached{Err: err}
		}
	}()
	defer c.server.recovered(c.method, &err)
	// The request may have waited for its transaction, and what was taken away meanwhile counts.
	if o.standing = c.decide(); o.standing != allowed {
		return nil, o.standing.err(nil)
	}
	o.admitted.Do(c.admitted)
	own := proto.Clone(o.message) // an attempt that is run again finds the message as it came
	handler := func(ctx context.Context, request any) (any, error) {
		reached = true
		return o.handler(ctx, request)
	}
	var reply any
	if o.chain != nil {
		reply, err = o.chain(ctx, own, o.info, handler)
	} else {
		reply, err = handler(ctx, own)
	}
	if err != nil {
		return nil, err
	}
	return c.message(reply)
}
