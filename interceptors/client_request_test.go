package interceptors_test

import (
	"context"
	"testing"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/dynamicpb"

	ledgerv1 "example.com/rolecall/gen/ledger/v1"
	"example.com/rolecall/interceptors/internal/feature"
)

// requestIDs returns the request_id of each request that exactly once has seen.
func (m *mesh) requestIDs() []string {
	var ids []string
	for _, call := range m.once.seen() {
		ids = append(ids, call.Message.(*ledgerv1.OpenAccountRequest).GetRequestId())
	}
	return ids
}

func TestAMissingRequestIDIsFilledInOnACopy(t *testing.T) {
	t.Parallel()
	m, s := newTill(t)
	conn := m.dial(clerk)
	request := &ledgerv1.OpenAccountRequest{Owner: "alice"}
	dynamic := dynamicpb.NewMessage(request.ProtoReflect().Descriptor())
	given := &ledgerv1.OpenAccountRequest{RequestId: "a2c7f8f0-53c5-4f0c-9f61-0d9b3f3a2d5e"}
	for _, message := range []proto.Message{request, request, dynamic, given} {
		before := proto.Clone(message)
		must(t, conn.Invoke(timeout(t), open, message, &ledgerv1.OpenAccountResponse{}))
		if !proto.Equal(before, message) {
			t.Errorf("the caller's message was %v and is now %v", before, message)
		}
	}
	ids := m.requestIDs()
	seen := map[string]bool{}
	for _, id := range ids[:3] {
		parsed, err := uuid.Parse(id)
		if err != nil || parsed.Version() != 4 || seen[id] {
			t.Errorf("request_id %q, want a random UUID of its own", id)
		}
		seen[id] = true
	}
	if ids[3] != given.GetRequestId() {
		t.Errorf("request_id %q, want the one that was given, %q", ids[3], given.GetRequestId())
	}
	var other string
	s.handle = func(_ context.Context, request *ledgerv1.OpenAccountRequest) (any, error) {
		other = request.GetRequestId()
		return &ledgerv1.OpenAccountResponse{}, nil
	}
	must(t, ask(timeout(t), conn, touch))
	if other != "" {
		t.Errorf("a method that asks for no request_id got %q", other)
	}
}

func TestARequestKeepsItsIDOverRetriesOfTheCallersInterceptors(t *testing.T) {
	t.Parallel()
	m, _ := newTill(t)
	twice := func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		if err := invoke(ctx, method, req, reply, cc, opts...); err != nil {
			return err
		}
		return invoke(ctx, method, req, reply, cc, opts...)
	}
	must(t, ask(timeout(t), m.dialWith(clerk, grpc.WithChainUnaryInterceptor(twice)), open))
	if ids := m.requestIDs(); len(ids) != 2 || ids[0] != ids[1] || ids[0] == "" {
		t.Errorf("request_ids %q, want one twice", ids)
	}
}

// dialWith returns a client with options of the caller's.
func (m *mesh) dialWith(path string, opts ...grpc.DialOption) *grpc.ClientConn {
	m.t.Helper()
	conn, err := m.newGuard(m.ca.Source(path), nil).NewClient(m.addr, m.ca.ID(server), opts...)
	must(m.t, err)
	m.t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func TestAHandlerThatCallsAnotherServiceInsideTheTransactionIsRefused(t *testing.T) {
	t.Parallel()
	m, s := newTill(t)
	conn := m.dial(clerk)
	s.handle = func(ctx context.Context, request *ledgerv1.OpenAccountRequest) (any, error) {
		if request.GetRequestId() == "" {
			t.Error("another service was reached out of a transaction")
		}
		for _, err := range []error{ask(ctx, conn, touch), func() error { _, err := followOnce(ctx, conn); return err }()} {
			if status.Code(err) != codes.Internal {
				t.Errorf("a call out of a transaction: got %v, want INTERNAL", err)
			}
		}
		return &ledgerv1.OpenAccountResponse{}, ask(ctx, conn, touch)
	}
	if err := ask(timeout(t), m.dial(clerk), open); status.Code(err) != codes.Internal {
		t.Errorf("got %v, want what the handler got", err)
	}
	if n := s.reached.Load(); n != 1 {
		t.Errorf("handlers were reached %d times, want once", n)
	}
	if err := ask(feature.InTransaction(timeout(t)), conn, touch); status.Code(err) != codes.Internal {
		t.Errorf("got %v", err)
	}
}
