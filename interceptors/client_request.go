package interceptors

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"example.com/rolecall/interceptors/internal/feature"
	"example.com/rolecall/interceptors/internal/requestid"
)

// begin refuses a call out of an open transaction, which would hold its locks until the call is answered, and gives a request
// to a method with exactly_once a random request_id if it has none (AIP-155). The caller's own message stays as it is: sent
// again, it is another request.
func (d *described) begin(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	if feature.Transaction(ctx) {
		return errInTransaction(method)
	}
	if d.describe(method).ExactlyOnce {
		req = withRequestID(req)
	}
	return invoke(ctx, method, req, reply, cc, opts...)
}

func beginStream(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	if feature.Transaction(ctx) {
		return nil, errInTransaction(method)
	}
	return open(ctx, desc, cc, method, opts...)
}

func errInTransaction(method string) error {
	return status.Errorf(codes.Internal, "interceptors: %s is called inside a transaction, whose locks would be held until it answers: call before or after it, or use the saga form of exactlyonce", method)
}

// withRequestID returns the request with a request_id: a copy if it had none. What has no such field is for the server to
// refuse.
func withRequestID(req any) any {
	message, ok := req.(proto.Message)
	if !ok {
		return req
	}
	field := requestid.Field(message)
	if field == nil || message.ProtoReflect().Get(field).String() != "" {
		return req
	}
	filled := proto.Clone(message)
	filled.ProtoReflect().Set(field, protoreflect.ValueOfString(requestid.New()))
	return filled
}
