package proof

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/protoadapt"

	"example.com/rolecall/interceptors/internal/feature"
	"example.com/rolecall/interceptors/internal/wire"
)

type alwaysKey struct{}

// Always has the calls of the returned context signed whatever the descriptors say, for clients that have none. The method
// must be one with requires_proof: an answer without a receipt is an error.
func Always(ctx context.Context) context.Context { return context.WithValue(ctx, alwaysKey{}, true) }

// client signs the calls of one client of the guard.
type client struct {
	*proofs
	to feature.ClientEnv
}

// Client implements feature.Calling.
func (p *proofs) Client(env feature.ClientEnv) (grpc.UnaryClientInterceptor, grpc.StreamClientInterceptor) {
	c := &client{p, env}
	return c.unary, c.stream
}

// signs tells whether a call is to be signed, and what the descriptors say of its method.
func (c *client) signs(ctx context.Context, method string) (feature.Method, bool) {
	m := c.env.Describe(method)
	return m, m.Proof || ctx.Value(alwaysKey{}) != nil
}

// unary signs a call, and makes it again with a proof of its own where that may help.
func (c *client) unary(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	if f := forwardingIn(opts); f != nil {
		if err := c.admit(f, method); err != nil {
			return err
		}
		// Once more, after credentials that an interceptor may have added: gRPC takes the last.
		return invoke(ctx, method, req, reply, cc, append(opts[:len(opts):len(opts)], grpc.PerRPCCredentials(f))...)
	}
	m, signs := c.signs(ctx, method)
	if !signs {
		return invoke(ctx, method, req, reply, cc, opts...)
	}
	body, err := marshal(req)
	if err != nil {
		return err
	}
	t := c.tries(method, m.Idempotent)
	for {
		answer, err := c.attempt(ctx, method, body, cc, invoke, opts)
		if err == nil {
			return unmarshal(answer, reply)
		}
		if !t.again(ctx, err) {
			return err
		}
	}
}

// attempt makes a call once, verifies its receipt, and returns the answer in its exact bytes. Nobody sees it before that.
func (c *client) attempt(ctx context.Context, method string, body []byte, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts []grpc.CallOption) ([]byte, error) {
	ctx, p := c.prove(ctx, method, body, opts)
	answer := &wire.Captured{}
	var trailer metadata.MD
	var server peer.Peer
	// The caller's own options come first: a codec of theirs would send other bytes.
	opts = append(opts[:len(opts):len(opts)], grpc.ForceCodecV2(wire.Codec()), grpc.Trailer(&trailer), grpc.Peer(&server), grpc.PerRPCCredentials(p))
	if err := invoke(ctx, method, &wire.Raw{Bytes: body}, answer, cc, opts...); err != nil {
		return nil, err
	}
	receipts, made := trailer.Get(feature.ReceiptKey), p.last.Load()
	var err error
	switch {
	case made == nil:
		err = errors.New("it was not signed")
	case len(receipts) != 1:
		err = fmt.Errorf("%d receipts came in place of one", len(receipts))
	default:
		err = c.accept(ctx, receipts[0], &made.claims, answer.Bytes, feature.PeerKey(&server))
	}
	if err != nil {
		return nil, status.Errorf(codes.DataLoss, "proof: the answer of %s to %s is not vouched for, and the request may have taken effect: %v", c.to.Server, method, err)
	}
	return answer.Bytes, nil
}

// prove says what the proof of a request is about. It is signed when gRPC has chosen the connection.
func (c *client) prove(ctx context.Context, method string, body []byte, opts []grpc.CallOption) (context.Context, *callCredentials) {
	md, ok := metadata.FromOutgoingContext(ctx) // a copy
	if !ok {
		md = metadata.MD{}
	}
	md.Delete(feature.ProofKey) // one that somebody has passed on
	s := statement{server: c.to.Server, method: method, body: body}
	s.cover(md)
	return metadata.NewOutgoingContext(ctx, md), &callCredentials{client: c, statement: s, metadata: md, others: credentialsIn(opts)}
}

// marshal returns the bytes of a request, which are signed and sent. Bytes that came from another are never signed: those of
// Forward are not taken here, should its options have been lost on the way.
func marshal(request any) ([]byte, error) {
	var body []byte
	err := errors.New("it is no message of Protobuf")
	switch m := request.(type) {
	case proto.Message:
		body, err = proto.Marshal(m)
	case protoadapt.MessageV1:
		body, err = proto.Marshal(protoadapt.MessageV2Of(m))
	}
	if err != nil {
		return nil, status.Errorf(codes.Internal, "proof: marshal a %T to sign it: %v", request, err)
	}
	return body, nil
}

// unmarshal decodes an answer whose receipt holds.
func unmarshal(answer []byte, reply any) error {
	if err := wire.Decode(answer, reply); err != nil {
		return status.Errorf(codes.Internal, "proof: unmarshal the answer into a %T: %v", reply, err)
	}
	return nil
}
