package exactlyonce_test

import (
	"context"
	"log/slog"
	"slices"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	ledgerv1 "example.com/rolecall/gen/ledger/v1"
	"example.com/rolecall/interceptors/exactlyonce"
	"example.com/rolecall/interceptors/internal/feature"
)

func count(ctx context.Context, request *ledgerv1.TransferRequest) (proto.Message, error) {
	return endpoint.Handle(ctx, request)
}

func TestARefusalOfAnInterceptorIsNotStored(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, k *kit) {
		var closed atomic.Bool
		conn := serveWith(t, exactlyonce.New(exactlyonce.Config{DB: adopt(k.url, k.db)}), count, slog.DiscardHandler,
			grpc.ChainUnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
				if closed.Load() {
					return nil, status.Error(codes.FailedPrecondition, "the shop is closed between 2 and 3")
				}
				return next(ctx, req)
			}))
		id := newID()
		closed.Store(true)
		if _, err := send(t, conn, id); status.Code(err) != codes.FailedPrecondition || status.Convert(err).Message() != "the shop is closed between 2 and 3" {
			t.Errorf("between 2 and 3: got %v", err)
		}
		k.check(t, 0, 0, 0)
		closed.Store(false)
		if _, err := send(t, conn, id); err != nil {
			t.Errorf("at 3: got %v", err)
		}
		k.check(t, 1, 1, 0)
	})
}

func TestASagaThatAnInterceptorRefusedMayComeAgain(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, k *kit) {
		r, id := k.start(t, nil, never(t)), newID()
		refused := func(context.Context) (proto.Message, error) {
			return nil, feature.Unreached{Err: status.Error(codes.FailedPrecondition, "closed")}
		}
		do(t.Context(), r, call(id, proven), refused)
		k.check(t, 0, 0, 0)
		ok(t, do(t.Context(), r, call(id, proven), pay(straight)))
	})
}

// pushedBack sends a request, and returns what gRPC's own retry is told.
func pushedBack(t *testing.T, conn grpc.ClientConnInterface) ([]string, error) {
	t.Helper()
	var trailer metadata.MD
	err := conn.Invoke(t.Context(), put, &ledgerv1.TransferRequest{RequestId: newID(), Note: "x"}, &ledgerv1.TransferResponse{}, grpc.Trailer(&trailer))
	return trailer["grpc-retry-pushback-ms"], err
}

func TestARequestThatHasNoRoomIsOnRecordAsRefused(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, k *kit) {
		var audit lines
		conn := serveWith(t, exactlyonce.New(exactlyonce.Config{DB: adopt(k.url, k.db), MaxRows: 1}), count, slog.NewTextHandler(&audit, nil))
		if _, err := send(t, conn, newID()); err != nil {
			t.Fatal(err)
		}
		pushback, err := pushedBack(t, conn)
		if status.Code(err) != codes.ResourceExhausted || !slices.Equal(pushback, []string{"1000"}) {
			t.Errorf("got %v with the pushback %q", err, pushback)
		}
		eventually(t, "on record", func() bool { return audit.has("RATE_LIMITED", "denied", "remembered", put) })
	})
}

func TestWhatTheDatabaseDidNotAnswerAsksGRPCToComeAgain(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, k *kit) {
		f := &faulty{DB: adopt(k.url, k.db)}
		conn := serve(t, exactlyonce.New(exactlyonce.Config{DB: f}), func(ctx context.Context, request *ledgerv1.TransferRequest) (proto.Message, error) {
			f.silent.Store(true)
			return endpoint.Handle(ctx, request)
		})
		pushback, err := pushedBack(t, conn)
		f.silent.Store(false)
		if status.Code(err) != codes.Unavailable || !slices.Equal(pushback, []string{"1000"}) {
			t.Errorf("got %v with the pushback %q", err, pushback)
		}
	})
}
