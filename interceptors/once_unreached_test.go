package interceptors_test

import (
	"context"
	"errors"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	ledgerv1 "example.com/rolecall/gen/ledger/v1"
	"example.com/rolecall/interceptors/internal/feature"
)

func TestWhatIsTakenAwayWhileARequestWaitsForItsTransactionCounts(t *testing.T) {
	t.Parallel()
	for _, method := range []string{open, payOnce} {
		m, s := newTill(t)
		m.guard.PauseSweep()
		m.once.do = func(ctx context.Context, _ *feature.OnceCall, run run) ([]byte, feature.Verdict, string, error) {
			must(t, m.server.PutInForce(noRoles))
			_, err := run(ctx)
			if !errors.As(err, new(feature.Unreached)) {
				t.Errorf("%s: what might be stored is %v", method, err)
			}
			return nil, feature.Good, "", err
		}
		err := ask(timeout(t), m.dial(clerk), method)
		refused(t, err, codes.PermissionDenied, "ROLE_REQUIRED")
		if n := s.reached.Load(); n != 0 {
			t.Errorf("%s: the handler was reached %d times", method, n)
		}
		m.audit.find(t, map[string]any{"event": "call", "verdict": "denied", "reason": "ROLE_REQUIRED", "method": method})
	}
}

func TestARefusalOfAnInterceptorIsToldFromOneOfTheHandler(t *testing.T) {
	t.Parallel()
	no := status.Error(codes.FailedPrecondition, "the shop is closed")
	for _, c := range []struct {
		name   string
		before error // of the interceptor, in front of the handler
		of     error // of the handler
		after  error // of the interceptor, behind it
		panics bool
		marked bool
	}{
		{name: "of an interceptor in front of the handler", before: no, marked: true},
		{name: "of the handler", of: no},
		{name: "of an interceptor behind the handler", after: no},
		{name: "a panic in an interceptor", panics: true, marked: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			m, s := newTill(t, func(config *meshConfig) {
				config.grpc = []grpc.ServerOption{grpc.ChainUnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
					if c.panics {
						panic("boom")
					}
					if c.before != nil {
						return nil, c.before
					}
					reply, err := handler(ctx, req)
					return reply, errors.Join(err, c.after)
				})}
			})
			s.handle = func(context.Context, *ledgerv1.OpenAccountRequest) (any, error) {
				return &ledgerv1.OpenAccountResponse{}, c.of
			}
			m.once.do = func(ctx context.Context, _ *feature.OnceCall, run run) ([]byte, feature.Verdict, string, error) {
				response, err := run(ctx)
				if err == nil {
					text, err := proto.Marshal(response)
					return text, feature.Good, "", err
				}
				if marked := errors.As(err, new(feature.Unreached)); marked != c.marked {
					t.Errorf("marked: %v, want %v", marked, c.marked)
				}
				return nil, feature.Good, "", err
			}
			err := ask(timeout(t), m.dial(clerk), open)
			if c.panics {
				refused(t, err, codes.Internal, "INTERNAL")
				return
			}
			if status.Code(err) != codes.FailedPrecondition || c.before != nil && status.Convert(err).Message() != "the shop is closed" {
				t.Errorf("the caller gets %v, want %v", err, no)
			}
		})
	}
}
