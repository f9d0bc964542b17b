package interceptors_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	ledgerv1 "example.com/rolecall/gen/ledger/v1"
	"example.com/rolecall/interceptors"
	"example.com/rolecall/interceptors/internal/feature"
	exact "example.com/rolecall/interceptors/internal/wire"
)

type run = func(context.Context) (proto.Message, error)

func TestAStoredAnswerIsReturnedByteForByteAndNobodyIsReached(t *testing.T) {
	t.Parallel()
	for _, method := range []string{open, payOnce} {
		chained := 0
		m, s := newTill(t, func(c *meshConfig) {
			c.grpc = []grpc.ServerOption{grpc.ChainUnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
				chained++
				return handler(ctx, req)
			})}
		})
		stored := []byte("\x0a\x03\x0a\x01a\x78\x01") // with a field that this side does not know
		m.once.do = func(context.Context, *feature.OnceCall, run) ([]byte, feature.Verdict, string, error) {
			return stored, feature.Good, "", nil
		}
		var trailer metadata.MD
		got := &exact.Captured{}
		must(t, m.dial(clerk).Invoke(timeout(t), method, &ledgerv1.OpenAccountRequest{}, got, grpc.ForceCodecV2(exact.Codec()), grpc.Trailer(&trailer)))
		if string(got.Bytes) != string(stored) {
			t.Errorf("%s: got %x, want %x", method, got.Bytes, stored)
		}
		if want := fakeReceipt("own", stored); method == payOnce && (len(trailer["rolecall-receipt"]) != 1 || trailer["rolecall-receipt"][0] != want) {
			t.Errorf("receipts %q, want %q", trailer["rolecall-receipt"], want)
		}
		if s.reached.Load() != 0 || chained != 0 {
			t.Errorf("%s: handler reached %d times, interceptors %d times", method, s.reached.Load(), chained)
		}
		m.audit.find(t, map[string]any{"verdict": "allowed", "method": method})
	}
}

func TestARequestIsKnownByWhoSentItForWhom(t *testing.T) {
	t.Parallel()
	users := &fakeUsers{}
	m, s := newTill(t, func(c *meshConfig) { c.options = []interceptors.Option{interceptors.With(users)} })
	var key string
	s.handle = func(ctx context.Context, _ *ledgerv1.OpenAccountRequest) (any, error) {
		user, _ := interceptors.CallerFrom(ctx).User()
		key = user.Key()
		return &ledgerv1.OpenAccountResponse{}, nil
	}
	asAlice := func(t *testing.T) context.Context { return interceptors.AsUser(timeout(t), "alice") }
	relayed := fakeProof{Signer: m.ca.ID(clerk), Nonce: "n"}
	for _, c := range []struct {
		name   string
		ctx    context.Context
		method string
		own    bool
		want   feature.OnceCall
	}{
		{"a workload", timeout(t), open, false, feature.OnceCall{}},
		{"for a user of another issuer", asAlice(t), open, false, feature.OnceCall{User: "user:https://login.example#alice"}},
		{"for a user of the mesh", asAlice(t), open, true, feature.OnceCall{User: "user:alice"}},
		{"with a proof", timeout(t), payOnce, true, feature.OnceCall{
			Signer: "spiffe://mesh.local" + manager, Proof: &feature.Proof{Signer: m.ca.ID(manager), Nonce: "own"}}},
		{"passed on", proving(timeout(t), relayed), payOnce, true, feature.OnceCall{
			Signer: "spiffe://mesh.local" + clerk, Proof: &feature.Proof{Signer: m.ca.ID(clerk), Relayed: true, Nonce: "n"}}},
	} {
		users.own = c.own
		must(t, ask(c.ctx, m.dial(manager), c.method))
		calls := m.once.seen()
		got := *calls[len(calls)-1]
		if request := got.Message.(*ledgerv1.OpenAccountRequest); request.GetOwner() != "alice" || len(request.GetRequestId()) != 36 {
			t.Errorf("%s: the message is %v", c.name, request)
		}
		c.want.Method, c.want.Peer, got.Message = c.method, "spiffe://mesh.local"+manager, nil
		if diff := cmp.Diff(c.want, got, cmpopts.EquateComparable(spiffeid.ID{})); diff != "" {
			t.Errorf("%s: call (-want +got):\n%s", c.name, diff)
		}
		if key != c.want.User {
			t.Errorf("%s: the handler's user is %q, want %q", c.name, key, c.want.User)
		}
	}
	if key := (interceptors.User{}).Key(); key != "" {
		t.Errorf("nobody is %q", key)
	}
}

func TestAHandlerRunsInsideExactlyOnce(t *testing.T) {
	t.Parallel()
	type mark struct{}
	var sequence []string
	m, s := newTill(t, func(c *meshConfig) {
		c.grpc = []grpc.ServerOption{grpc.ChainUnaryInterceptor(func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
			sequence = append(sequence, "interceptor of "+info.FullMethod)
			return handler(ctx, req)
		})}
	})
	m.once.do = func(ctx context.Context, _ *feature.OnceCall, run run) ([]byte, feature.Verdict, string, error) {
		sequence = append(sequence, "once")
		var response proto.Message
		for range 2 { // as after a failed serialization
			var err error
			if response, err = run(context.WithValue(ctx, mark{}, "transaction")); err != nil {
				return nil, feature.Good, "", err
			}
		}
		bytes, err := proto.Marshal(response)
		return bytes, feature.Good, "", err
	}
	s.handle = func(ctx context.Context, request *ledgerv1.OpenAccountRequest) (any, error) {
		sequence = append(sequence, "handler for "+request.GetOwner())
		request.Owner = "somebody else" // which no other attempt sees
		if ctx.Value(mark{}) != "transaction" {
			t.Error("the handler has not got the context that it is run with")
		}
		if id := interceptors.CallerFrom(ctx).ID(); id != m.ca.ID(clerk) {
			t.Errorf("the caller is %s", id)
		}
		if _, ok := ctx.Deadline(); !ok {
			t.Error("the handler has no deadline")
		}
		return &ledgerv1.OpenAccountResponse{Account: &ledgerv1.Account{AccountId: "a"}}, nil
	}
	ctx, cancel := context.WithCancel(t.Context()) // without a deadline
	defer cancel()
	must(t, ask(ctx, m.dial(clerk), open))
	want := []string{"once", "interceptor of " + open, "handler for alice", "interceptor of " + open, "handler for alice"}
	if diff := cmp.Diff(want, sequence); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if owner := m.once.seen()[0].Message.(*ledgerv1.OpenAccountRequest).GetOwner(); owner != "alice" {
		t.Errorf("the message that is stored is of %q", owner)
	}
	m.audit.find(t, map[string]any{"verdict": "allowed", "method": open})
	if n := strings.Count(m.audit.String(), `"verdict":"allowed"`); n != 1 {
		t.Errorf("%d records of one call", n)
	}
}

func TestWhatExactlyOnceRefusesIsARefusalLikeAnyOther(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		verdict feature.Verdict
		code    codes.Code
		reason  string
		retry   bool
		message string // "": that of the reason
	}{
		{feature.NoRequestID, codes.InvalidArgument, "REQUEST_ID_REQUIRED", false, ""},
		{feature.Reused, codes.FailedPrecondition, "REQUEST_ID_REUSED", false, ""},
		{feature.InProgress, codes.Aborted, "REQUEST_IN_PROGRESS", true, ""},
		{feature.Replayed, codes.Unauthenticated, "PROOF_REPLAYED", false, ""},
		{feature.Expired, codes.Unauthenticated, "PROOF_EXPIRED", true, ""},
		{feature.Full, codes.ResourceExhausted, "PROOF_WINDOW_FULL", true, ""},
		{feature.TooMany, codes.ResourceExhausted, "RATE_LIMITED", true, "as many requests of the caller are remembered as may be"},
		{feature.Unavailable, codes.Unavailable, "VERIFIER_UNAVAILABLE", true, "the database does not answer: send the request again, with the same request_id"},
		{200, codes.Internal, "INTERNAL", false, "internal error"},
	} {
		t.Run(c.reason, func(t *testing.T) {
			t.Parallel()
			from, meter := newMeter()
			m, s := newTill(t, func(c *meshConfig) { c.options = []interceptors.Option{meter} })
			m.once.do = func(context.Context, *feature.OnceCall, run) ([]byte, feature.Verdict, string, error) {
				return []byte("what comes beside it"), c.verdict, "as the test wants it", errors.New("secret 4711")
			}
			var trailer metadata.MD
			err := ask(timeout(t), m.dial(clerk), payOnce, grpc.Trailer(&trailer))
			info := refused(t, err, c.code, c.reason)
			if info["method"] != payOnce || strings.Contains(err.Error(), "4711") {
				t.Errorf("error %v with metadata %v", err, info)
			}
			if got := status.Convert(err).Message(); c.message != "" && got != c.message {
				t.Errorf("says %q, want %q", got, c.message)
			}
			if retry, pushback := retryDelay(err) > 0, len(trailer["grpc-retry-pushback-ms"]) == 1; retry != c.retry || pushback != c.retry {
				t.Errorf("asks to try again: %v, to gRPC itself: %v, want %v", retry, pushback, c.retry)
			}
			m.audit.find(t, map[string]any{"event": "call", "verdict": "denied", "reason": c.reason, "detail": "as the test wants it", "signer": "spiffe://mesh.local" + clerk})
			eventually(t, "a count of it", func() bool { return collect(t, from)["rolecall.decisions method="+payOnce+",reason="+c.reason] == 1 })
			if s.reached.Load() != 0 || strings.Contains(m.audit.String(), `"verdict":"allowed"`) || len(trailer["rolecall-receipt"]) > 0 {
				t.Errorf("handler reached %d times, receipts %q, on record: %s", s.reached.Load(), trailer["rolecall-receipt"], m.audit.String())
			}
		})
	}
}

func TestAnErrorOfAHandlerComesThroughExactlyOnceWithItsDetails(t *testing.T) {
	t.Parallel()
	m, s := newTill(t)
	s.handle = func(context.Context, *ledgerv1.OpenAccountRequest) (any, error) {
		return nil, interceptors.InvalidField("currency", "must be one of ISO 4217")
	}
	err := ask(timeout(t), m.dial(clerk), open)
	if info := refused(t, err, codes.InvalidArgument, "INVALID_FIELD"); info["field"] != "currency" {
		t.Errorf("metadata %v", info)
	}
	violations := 0
	for _, detail := range status.Convert(err).Details() {
		if bad, ok := detail.(*errdetails.BadRequest); ok {
			violations += len(bad.GetFieldViolations())
		}
	}
	if violations != 1 {
		t.Errorf("%d violations in %v, want 1", violations, err)
	}
}

func TestAPanicInsideExactlyOnceIsAnErrorOfTheHandler(t *testing.T) {
	t.Parallel()
	m, s := newTill(t)
	s.handle = func(context.Context, *ledgerv1.OpenAccountRequest) (any, error) { panic("secret 4711") }
	var seen error
	m.once.do = func(ctx context.Context, _ *feature.OnceCall, run run) ([]byte, feature.Verdict, string, error) {
		_, seen = run(ctx)
		return nil, feature.Good, "", seen
	}
	refused(t, ask(timeout(t), m.dial(clerk), open), codes.Internal, "INTERNAL")
	refused(t, seen, codes.Internal, "INTERNAL")
	m.once.do = func(context.Context, *feature.OnceCall, run) ([]byte, feature.Verdict, string, error) {
		panic("secret 4711")
	}
	refused(t, ask(timeout(t), m.dial(clerk), open), codes.Internal, "INTERNAL")
	eventually(t, "both stacks in the log", func() bool { return strings.Count(m.log.String(), "secret 4711") == 2 })
}
