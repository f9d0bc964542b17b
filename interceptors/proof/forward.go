package proof

import (
	"context"
	"strings"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	rolecallv1 "example.com/rolecall/gen/rolecall/v1"
	"example.com/rolecall/interceptors"
	"example.com/rolecall/interceptors/internal/feature"
	"example.com/rolecall/interceptors/internal/wire"
)

// Forward sends a request that another workload has signed, over a client of the server that it is addressed to: its exact
// bytes, with its proof, on behalf of no user. The answer comes back in its exact bytes, with the receipt, which is for the
// signer to verify. Errors are those of the call; DATA_LOSS says that an answer came without exactly one receipt. It is one
// attempt: whether to make another with the same proof is for the caller to know.
//
// Only the signer's request is passed on, and never a request of the caller's own: nothing is sent, INVALID_ARGUMENT, unless a
// descriptor that is linked into this process says that the method asks for a proof, which the server verifies then. Nor is
// anything sent, INTERNAL, over a client whose guard has no Feature of this package.
func Forward(ctx context.Context, conn grpc.ClientConnInterface, signed *rolecallv1.SignedRequest) (*rolecallv1.SignedResponse, error) {
	if strings.Count(signed.GetMethod(), "/") != 2 || !strings.HasPrefix(signed.GetMethod(), "/") {
		return nil, status.Errorf(codes.InvalidArgument, "proof: %.100q is not a method in the form /package.Service/Method", signed.GetMethod())
	}
	if len(signed.GetProof()) == 0 || len(signed.GetProof()) > feature.MaxProof || strings.Trim(signed.GetProof(), proofAlphabet) != "" {
		return nil, status.Error(codes.InvalidArgument, "proof: the request comes without a proof in compact form of at most 4 KiB")
	}
	ctx = interceptors.AsUser(ctx, "")
	if md, ok := metadata.FromOutgoingContext(ctx); ok {
		md.Delete(feature.ProofKey) // of another call
		ctx = metadata.NewOutgoingContext(ctx, md)
	}
	var trailer metadata.MD
	answer := &wire.Captured{}
	err := conn.Invoke(ctx, signed.GetMethod(), &wire.Raw{Bytes: signed.GetRequest()}, answer,
		grpc.ForceCodecV2(wire.Codec()), grpc.Trailer(&trailer), grpc.PerRPCCredentials(&forwarding{proof: signed.GetProof()}))
	if err != nil {
		return nil, err
	}
	receipts := trailer.Get(feature.ReceiptKey)
	if len(receipts) != 1 {
		return nil, status.Errorf(codes.DataLoss, "proof: %d receipts came in place of one, and the request may have taken effect", len(receipts))
	}
	return &rolecallv1.SignedResponse{Response: answer.Bytes, Receipt: receipts[0]}, nil
}

// proofAlphabet is what a proof is made of: base64url and dots.
const proofAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_."

// forwarding is the proof of a request that is passed on, as the credentials of the call. It lets nothing be sent before the
// client's own part of the feature has looked at the method.
type forwarding struct {
	proof    string
	admitted atomic.Bool
}

// forwardingIn returns what a call passes on; nil if it is one of the caller's own.
func forwardingIn(opts []grpc.CallOption) *forwarding {
	for _, opt := range opts {
		if given, ok := opt.(grpc.PerRPCCredsCallOption); ok {
			if f, ok := given.Creds.(*forwarding); ok {
				return f
			}
		}
	}
	return nil
}

// admit lets a request be passed on whose proof the server must verify: with another one the relay's own identity and roles
// would count.
func (c *client) admit(f *forwarding, method string) error {
	if !c.env.Describe(method).Proof {
		return status.Errorf(codes.InvalidArgument, "proof: %.200s is not passed on: no descriptor in this program says that it asks for a proof, so nobody would verify whose request it is", method)
	}
	f.admitted.Store(true)
	return nil
}

// GetRequestMetadata implements credentials.PerRPCCredentials.
func (f *forwarding) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	if !f.admitted.Load() {
		return nil, status.Error(codes.Internal, "proof: a request is passed on over a client whose guard has no proof feature: give it one, with interceptors.With(proof.New(...))")
	}
	return map[string]string{feature.ProofKey: f.proof}, nil
}

// RequireTransportSecurity implements credentials.PerRPCCredentials.
func (f *forwarding) RequireTransportSecurity() bool { return true }
