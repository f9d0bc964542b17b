package call_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	testing_v1 "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/reflect/protoregistry"

	"example.com/rolecall/internal/call"
	"example.com/rolecall/rolecalltest"
)

// exchange calls a method of the echo and returns the answers.
func exchange(ctx context.Context, t *testing.T, conn *grpc.ClientConn, method string, in io.Reader, received func()) ([]string, error) {
	t.Helper()
	s := call.Service{Descriptor: testing_v1.File_grpc_testing_test_proto.Services().ByName("TestService"), Types: protoregistry.GlobalTypes}
	m, err := call.Find([]call.Service{s}, "TestService/"+method)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	e := call.Exchange{Method: m, Conn: conn, Prepare: func(*call.Message) error { return nil }, Receive: func(response *call.Message) error {
		text, err := call.Writer{Types: m.Types, Lines: true}.Write(response)
		got = append(got, strings.TrimSpace(text))
		received()
		return err
	}}
	err = e.Do(ctx, call.NewInput(m, in))
	return got, err
}

func TestAMethodIsCalledInEachOfTheFourShapes(t *testing.T) {
	t.Parallel()
	ca := rolecalltest.NewCA(t, "mesh.local")
	conn := dial(t, ca, "bob", echoServer(t, ca, echo{}))
	const payload = `{"payload":{"type":"COMPRESSABLE","body":"aGk="}}`
	const answer = `{"payload":{"type":"COMPRESSABLE","body":"aGk="},"peer_socket_address":""}`
	for name, tc := range map[string]struct {
		method, in string
		want       []string
	}{
		"one request, one answer":            {"UnaryCall", payload, []string{`{"payload":{"type":"COMPRESSABLE","body":"aGk="},"username":"","oauth_scope":"","server_id":"","grpclb_route_type":"GRPCLB_ROUTE_TYPE_UNKNOWN","hostname":""}`}},
		"no request is an empty one":         {"EmptyCall", "", nil},
		"one request, several answers":       {"StreamingOutputCall", `{"response_parameters": [{"size": 1}, {"size": 2}]}`, []string{`{"payload":{"type":"COMPRESSABLE","body":"AA=="},"peer_socket_address":""}`, `{"payload":{"type":"COMPRESSABLE","body":"AAA="},"peer_socket_address":""}`}},
		"several requests, one answer":       {"StreamingInputCall", payload + payload, []string{`{"aggregated_payload_size":4}`}},
		"no request in a stream, one answer": {"StreamingInputCall", "", []string{`{"aggregated_payload_size":0}`}},
		"several of both":                    {"FullDuplexCall", payload + " " + payload, []string{answer, answer}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := exchange(patience(t), t, conn, tc.method, strings.NewReader(tc.in), func() {})
			if tc.want == nil {
				if status.Code(err) != codes.Unimplemented {
					t.Errorf("got %v, %v", got, err)
				}
				return
			}
			if diff := cmp.Diff(tc.want, got); diff != "" || err != nil {
				t.Errorf("%v, answers (-want +got):\n%s", err, diff)
			}
		})
	}
}

func TestAStreamEndsWhenItIsInterrupted(t *testing.T) {
	t.Parallel()
	ca := rolecalltest.NewCA(t, "mesh.local")
	conn := dial(t, ca, "bob", echoServer(t, ca, echo{}))
	ctx, interrupt := context.WithCancel(patience(t))
	got, err := exchange(ctx, t, conn, "StreamingOutputCall", strings.NewReader(`{"response_parameters": [{"size": 1}, {"size": -1}]}`), interrupt)
	if len(got) != 1 || status.Code(err) != codes.Canceled {
		t.Errorf("got %v, %v; want one answer and CANCELLED", got, err)
	}
}

func TestNobodyIsWaitedForWhoHasMoreToSendThanTheServerWants(t *testing.T) {
	t.Parallel()
	ca := rolecalltest.NewCA(t, "mesh.local")
	conn := dial(t, ca, "bob", echoServer(t, ca, echo{}))
	in, typist := io.Pipe()
	go func() { _, _ = typist.Write([]byte(`{"payload": {"body": "bm8="}}`)) }() // "no", and the pipe stays open
	_, err := exchange(patience(t), t, conn, "StreamingInputCall", in, func() {})
	_ = typist.Close()
	if status.Code(err) != codes.InvalidArgument {
		t.Errorf("got %v, want INVALID_ARGUMENT", err)
	}
}

func TestAWrongRequestInAStreamEndsIt(t *testing.T) {
	t.Parallel()
	ca := rolecalltest.NewCA(t, "mesh.local")
	conn := dial(t, ca, "bob", echoServer(t, ca, echo{}))
	for _, in := range []string{`{"x": 1}`, `{} {"x": 1}`} {
		got, err := exchange(patience(t), t, conn, "StreamingInputCall", strings.NewReader(in), func() {})
		var wrong *call.InputError
		if len(got) != 0 || !errors.As(err, &wrong) {
			t.Errorf("%s: got %v, %v; want to be told what is wrong", in, got, err)
		}
	}
}
