package call_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	testing_v1 "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"

	"example.com/rolecall/interceptors"
	"example.com/rolecall/internal/call"
	"example.com/rolecall/rolecalltest"
)

func TestATraceTellsWhetherARequestHasLeft(t *testing.T) {
	t.Parallel()
	ca := rolecalltest.NewCA(t, "mesh.local")
	good := echoServer(t, ca, echo{})
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	for name, tc := range map[string]struct {
		to   call.Peer
		in   string
		sent bool
		code codes.Code
	}{
		"an answer":                        {good, `{}`, true, codes.OK},
		"a refusal":                        {good, `{"response_status": {"code": 14, "message": "no"}}`, true, codes.Unavailable},
		"nobody there":                     {call.Peer{Target: "passthrough:///" + closed.Addr().String(), ID: good.ID}, `{}`, false, codes.Unavailable},
		"a server that is somebody else's": {call.Peer{Target: good.Target, ID: ca.ID("/service/other")}, `{}`, false, codes.Unavailable},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var trace call.Trace
			_, err := exchange(call.With{Trace: &trace}.Context(patience(t), call.Method{}), t, dial(t, ca, "bob", tc.to), "UnaryCall", strings.NewReader(tc.in), func() {})
			if status.Code(err) != tc.code || trace.Sent() != tc.sent || status.Code(trace.Failed()) != tc.code {
				t.Errorf("got %v, sent %v, and of the attempt %v; want %s, sent %v", err, trace.Sent(), trace.Failed(), tc.code, tc.sent)
			}
		})
	}
}

func TestATraceIsOfOneCall(t *testing.T) {
	t.Parallel()
	ca := rolecalltest.NewCA(t, "mesh.local")
	conn := dial(t, ca, "bob", echoServer(t, ca, echo{}))
	var trace call.Trace
	ctx := patience(t)
	for _, c := range []context.Context{ctx, call.With{Trace: &trace}.Context(ctx, call.Method{})} {
		if trace.Sent() {
			t.Error("a call without the trace has filled it")
		}
		if _, err := exchange(c, t, conn, "UnaryCall", strings.NewReader(`{}`), func() {}); err != nil {
			t.Fatal(err)
		}
	}
	if !trace.Sent() || trace.Failed() != nil {
		t.Errorf("sent %v, failed %v", trace.Sent(), trace.Failed())
	}
}

// late refuses the first proof as expired, as a server does that has just started.
type late struct {
	echo
	calls *atomic.Int32
}

func (l late) UnaryCall(context.Context, *testing_v1.SimpleRequest) (*testing_v1.SimpleResponse, error) {
	if l.calls.Add(1) > 1 {
		return &testing_v1.SimpleResponse{}, nil
	}
	s, err := status.New(codes.Unauthenticated, "the proof has expired").WithDetails(&errdetails.ErrorInfo{
		Domain: "rolecall", Reason: "PROOF_EXPIRED", Metadata: map[string]string{"method": testing_v1.TestService_UnaryCall_FullMethodName}})
	return nil, errors.Join(err, s.Err())
}

func TestATraceTellsOfAttemptsThatTheClientMakesByItself(t *testing.T) {
	t.Parallel()
	ca := rolecalltest.NewCA(t, "mesh.local")
	calls := &atomic.Int32{}
	at := server(t, ca, func(s *interceptors.Server) { testing_v1.RegisterTestServiceServer(s, late{calls: calls}) }, echoRules()...)
	var trace call.Trace
	ctx := call.With{Trace: &trace}.Context(patience(t), call.Method{Service: call.Service{Reflected: true}, Requires: call.Requires{Proof: true}})
	_, err := exchange(ctx, t, dial(t, ca, "bob", at), "UnaryCall", strings.NewReader(`{}`), func() {})
	if calls.Load() != 2 || !strings.Contains(call.Again(trace.Failed()), "refuses the proof as expired") {
		t.Errorf("%d calls, %v; of the attempts the trace says %v; want two, the first refused", calls.Load(), err, trace.Failed())
	}
}
