package exactlyonce_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	ledgerv1 "example.com/rolecall/gen/ledger/v1"
	"example.com/rolecall/interceptors"
	"example.com/rolecall/interceptors/exactlyonce"
	"example.com/rolecall/interceptors/internal/feature"
)

func TestWhatAHandlerEndsWithDecidesWhatStays(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, k *kit) {
		r := k.start(t, nil)
		for code := codes.Canceled; code <= codes.Unauthenticated; code++ {
			want := 0 // what is stored and burned
			switch code {
			case codes.InvalidArgument, codes.NotFound, codes.AlreadyExists, codes.FailedPrecondition, codes.OutOfRange:
				want = 1
			}
			k.exec(t, "DELETE FROM rolecall_requests")
			k.exec(t, "DELETE FROM rolecall_nonces")
			id := newID()
			if got := do(t.Context(), r, call(id, proven), thenFail(status.Error(code, "no"))); got != (result{Code: code}) {
				t.Errorf("%v: got %+v", code, got)
			}
			k.check(t, 0, want, want)
			second := do(t.Context(), r, call(id, proven), bump)
			if want == 1 && second.Code != code || want == 0 && second.Code != codes.OK {
				t.Errorf("%v: the repetition got %+v", code, second)
			}
			k.exec(t, "UPDATE effects SET times = 0")
		}
		// An error that is no status is none of the final ones.
		if got := do(t.Context(), r, call(newID(), proven), thenFail(errors.New("boom"))); got.Code != codes.Unknown {
			t.Errorf("got %+v, want Unknown", got)
		}
		if got := k.effects(t); got != 0 {
			t.Errorf("%d effects of a handler that failed", got)
		}
	})
}

func TestAFinalRefusalIsRepeatedWithItsDetails(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, k *kit) {
		r, c := k.start(t, nil), call(newID())
		_, _, _, first := r.Do(t.Context(), c, thenFail(interceptors.InvalidField("amount", "is more than there is")))
		_, _, _, second := r.Do(t.Context(), c, bump)
		a, b := status.Convert(first).Proto(), status.Convert(second).Proto()
		if !proto.Equal(a, b) || len(b.GetDetails()) != 2 || b.GetMessage() == "" {
			t.Errorf("first %v\nthen  %v", a, b)
		}
	})
}

func TestARefusalThatIsTooLargeIsStoredWithoutItsDetails(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, k *kit) {
		r, c := k.start(t, nil), call(newID())
		large, err := status.New(codes.NotFound, "no such account").WithDetails(&errdetails.DebugInfo{Detail: strings.Repeat("x", 65<<10)})
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			_, _, _, got := r.Do(t.Context(), c, thenFail(large.Err()))
			if s := status.Convert(got); s.Code() != codes.NotFound || s.Message() != "no such account" || len(s.Details()) != 0 {
				t.Errorf("got %v with %d details", s, len(s.Details()))
			}
		}
	})
}

func TestARefusalIsFinalWhateverItsTextIs(t *testing.T) {
	t.Parallel()
	info := &errdetails.ErrorInfo{Domain: "shop", Reason: "NO_SUCH_ACCOUNT"}
	kept, err := anypb.New(info)
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		message, want string
		details       []*anypb.Any
		left          int
	}{
		"cut in a letter by the handler":   {"there is no account \xc3", "there is no account ?", []*anypb.Any{kept}, 1},
		"cut in a letter where it is long": {"x" + strings.Repeat("é", 40_000), "x" + strings.Repeat("é", 32<<10/2-1) + "?", nil, 0},
		"with a detail that is no UTF-8":   {"no", "", []*anypb.Any{{TypeUrl: "\xff"}, kept}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			each(t, func(t *testing.T, k *kit) {
				refusal := status.FromProto(&spb.Status{Code: int32(codes.NotFound), Message: test.message, Details: test.details}).Err()
				check := func(got error) {
					t.Helper()
					if s := status.Convert(got); s.Code() != codes.NotFound || s.Message() != test.want || len(s.Details()) != test.left ||
						test.left == 1 && !proto.Equal(s.Details()[0].(proto.Message), info) {
						t.Errorf("got %v %.60q with %v", s.Code(), s.Message(), s.Details())
					}
				}
				r, c := k.start(t, nil), call(newID())
				for range 2 {
					_, _, _, got := r.Do(t.Context(), c, thenFail(refusal))
					check(got)
				}
				_, _, _, got := k.start(t, nil, never(t)).Do(t.Context(), call(newID()), func(ctx context.Context) (proto.Message, error) {
					saga := exactlyonce.SagaFrom(ctx)
					if err := saga.Begin(ctx, nil); err != nil {
						return nil, err
					}
					return nil, saga.Refuse(ctx, refusal, nil)
				})
				check(got)
				if n := k.number(t, "SELECT COUNT(*) FROM rolecall_requests WHERE state = 'REFUSED'"); n != 2 {
					t.Errorf("%d are refused for good, want 2", n)
				}
			})
		})
	}
}

func TestAResponseThatIsTooLargeUndoesTheRequest(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, k *kit) {
		got := do(t.Context(), k.start(t, nil), call(newID(), proven), func(ctx context.Context) (proto.Message, error) {
			_, err := bump(ctx)
			return &ledgerv1.TransferResponse{Transfer: &ledgerv1.TransferRecord{Note: strings.Repeat("x", 4<<20)}}, err
		})
		if got != (result{Code: codes.Internal}) {
			t.Errorf("got %+v, want Internal", got)
		}
		k.check(t, 0, 0, 0)
	})
}

func TestAProof(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, k *kit) {
		r, id := k.start(t, nil), newID()
		idle(t, r)
		first := call(id, proven)
		response := ok(t, do(t.Context(), r, first, bump))
		replayed := result{Verdict: feature.Replayed}
		if got := do(t.Context(), r, first, bump); got != replayed {
			t.Errorf("the same proof with the same request_id: got %+v", got)
		}
		if got := do(t.Context(), r, call(newID(), func(c *feature.OnceCall) { proven(c); c.Proof = first.Proof }), bump); got != replayed {
			t.Errorf("the same proof with another request_id: got %+v", got)
		}
		if got := do(t.Context(), r, call(id, proven), bump); got != response {
			t.Errorf("a retry with a fresh proof: got %+v, want %+v", got, response)
		}
		other := call(id, proven, func(c *feature.OnceCall) { c.Message.(*ledgerv1.TransferRequest).Note = "x" })
		if got := do(t.Context(), r, other, bump); got != (result{Verdict: feature.Reused}) {
			t.Errorf("another payload: got %+v", got)
		}
		if got := do(t.Context(), r, other, bump); got != replayed {
			t.Errorf("the proof of a request that was refused for its payload: got %+v", got)
		}
		k.check(t, 1, 1, 3)
		// Ten minutes later the nonces are pruned, and then the clock is set back.
		k.pass(10 * time.Minute)
		r.Prune(t.Context())
		for range 2 {
			k.pass(2 * time.Minute)
			r.Prune(t.Context())
		}
		k.check(t, 1, 1, 0)
		k.pass(-14 * time.Minute)
		if got := do(t.Context(), r, first, bump); got != (result{Verdict: feature.Expired}) {
			t.Errorf("an old proof after the clock was set back: got %+v", got)
		}
		k.check(t, 1, 1, 0)
	})
}

func TestAFailedStatementBeforeARefusalDoesNotKeepItFromBeingStored(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, k *kit) {
		r, id := k.start(t, nil), newID()
		exists := func(ctx context.Context) (proto.Message, error) {
			if _, err := exactlyonce.Tx(ctx).ExecContext(ctx, "INSERT INTO effects (name, times) VALUES ('n', 1)"); err != nil {
				return nil, status.Error(codes.AlreadyExists, "n is there")
			}
			return bump(ctx)
		}
		for range 2 {
			if got := do(t.Context(), r, call(id, proven), exists); got != (result{Code: codes.AlreadyExists}) {
				t.Errorf("got %+v", got)
			}
		}
		k.check(t, 0, 1, 2)
	})
}

func TestAHandlerThatGoesOnAfterAFailedStatementTakesNoEffectOnPostgres(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, k *kit) {
		if !postgres(k.url) {
			t.Skip("SQLite undoes the statement alone")
		}
		got := do(t.Context(), k.start(t, nil), call(newID(), proven), func(ctx context.Context) (proto.Message, error) {
			_, _ = bump(ctx)
			_, _ = exactlyonce.Tx(ctx).ExecContext(ctx, "SELECT nothing")
			return &ledgerv1.TransferResponse{}, nil
		})
		if got != (result{Code: codes.Internal}) {
			t.Errorf("got %+v, want Internal", got)
		}
		k.check(t, 0, 0, 0)
	})
}

func TestAPanicUndoesTheRequestAndArrives(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, k *kit) {
		r, id := k.start(t, nil), newID()
		func() {
			defer func() {
				if p := recover(); p != "boom" {
					t.Errorf("got %v, want the panic", p)
				}
			}()
			do(t.Context(), r, call(id, proven), func(ctx context.Context) (proto.Message, error) {
				_, _ = bump(ctx)
				panic("boom")
			})
		}()
		k.check(t, 0, 0, 0)
		ok(t, do(t.Context(), r, call(id, proven), bump))
	})
}

func TestAResponseMayBeEmpty(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, k *kit) {
		r, c := k.start(t, nil), call(newID())
		for range 2 {
			if got := do(t.Context(), r, c, func(context.Context) (proto.Message, error) { return &ledgerv1.TransferResponse{}, nil }); got != (result{}) {
				t.Errorf("got %+v, want an empty response", got)
			}
		}
		k.check(t, 0, 1, 0)
	})
}
