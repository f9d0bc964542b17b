package call_test

import (
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc"
	testing_v1 "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/dynamicpb"

	"example.com/rolecall/internal/call"
	"example.com/rolecall/rolecalltest"
)

// unary calls the echo with what goes along, and returns the metadata that arrived.
func unary(t *testing.T, conn *grpc.ClientConn, came <-chan metadata.MD, with call.With, change func(*call.Method)) (metadata.MD, error) {
	t.Helper()
	s := call.Service{Descriptor: testing_v1.File_grpc_testing_test_proto.Services().ByName("TestService"), Types: protoregistry.GlobalTypes}
	m, err := call.Find([]call.Service{s}, "TestService/UnaryCall")
	if err != nil {
		t.Fatal(err)
	}
	change(&m)
	err = conn.Invoke(with.Context(patience(t), m), m.Full(), dynamicpb.NewMessage(m.Descriptor.Input()), dynamicpb.NewMessage(m.Descriptor.Output()))
	select {
	case md := <-came:
		return md, err
	default:
		t.Fatalf("the call did not arrive: %v", err)
	}
	return nil, err
}

func TestWhatGoesAlongWithACallArrives(t *testing.T) {
	t.Parallel()
	ca := rolecalltest.NewCA(t, "mesh.local")
	came := make(chan metadata.MD, 1)
	conn := dial(t, ca, "bob", echoServer(t, ca, echo{came: came}))
	md, err := unary(t, conn, came, call.With{Roles: []string{"a.b", "c.d"}, Metadata: []string{"tenant", "x"}}, func(*call.Method) {})
	if err != nil || !slices.Equal(md.Get("tenant"), []string{"x"}) || !slices.Equal(md.Get("rolecall-role-subset"), []string{"a.b c.d"}) || len(md.Get("rolecall-proof")) != 0 {
		t.Errorf("got %v, %v", md, err)
	}
}

func TestAMethodIsSignedOnTheWordOfTheServerThatDescribedIt(t *testing.T) {
	t.Parallel()
	ca := rolecalltest.NewCA(t, "mesh.local")
	came := make(chan metadata.MD, 1)
	conn := dial(t, ca, "bob", echoServer(t, ca, echo{came: came}))
	md, err := unary(t, conn, came, call.With{}, func(m *call.Method) { m.Reflected, m.Requires.Proof = true, true })
	if len(md.Get("rolecall-proof")) != 1 {
		t.Errorf("no proof arrived: %v", md)
	}
	if err == nil || !strings.Contains(err.Error(), "receipt") {
		t.Errorf("an answer without a receipt was taken: %v", err)
	}
}
