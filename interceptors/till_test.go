package interceptors_test

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/bufbuild/protocompile"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoregistry"

	ledgerv1 "example.com/rolecall/gen/ledger/v1"
	"example.com/rolecall/interceptors"
)

// tillProto has methods with each of the conditions that are about requests.
const tillProto = `syntax = "proto3";
package till.v1;
import "ledger/v1/ledger.proto";
import "rolecall/v1/access.proto";
service Till {
  option (rolecall.v1.role) = {name: "till.clerk"};
  option (rolecall.v1.role) = {name: "till.manager" includes: "till.clerk"};
  rpc Pay(ledger.v1.OpenAccountRequest) returns (ledger.v1.OpenAccountResponse) {
    option (rolecall.v1.requires_role) = "till.clerk";
    option (rolecall.v1.requires_proof) = true;
  }
  rpc PayOnce(ledger.v1.OpenAccountRequest) returns (ledger.v1.OpenAccountResponse) {
    option (rolecall.v1.requires_role) = "till.clerk";
    option (rolecall.v1.requires_proof) = true;
    option (rolecall.v1.exactly_once) = true;
    option idempotency_level = IDEMPOTENT;
  }
  rpc Open(ledger.v1.OpenAccountRequest) returns (ledger.v1.OpenAccountResponse) {
    option (rolecall.v1.requires_role) = "till.clerk";
    option (rolecall.v1.exactly_once) = true;
    option idempotency_level = IDEMPOTENT;
  }
  rpc Show(ledger.v1.OpenAccountRequest) returns (ledger.v1.OpenAccountResponse) {
    option (rolecall.v1.any_workload) = true;
    option (rolecall.v1.requires_proof) = true;
  }
  rpc Look(ledger.v1.OpenAccountRequest) returns (ledger.v1.OpenAccountResponse) {
    option (rolecall.v1.any_workload) = true;
    option idempotency_level = NO_SIDE_EFFECTS;
  }
  rpc Touch(ledger.v1.OpenAccountRequest) returns (ledger.v1.OpenAccountResponse) { option (rolecall.v1.any_workload) = true; }
  rpc Gaze(ledger.v1.OpenAccountRequest) returns (stream ledger.v1.OpenAccountResponse) {
    option (rolecall.v1.any_workload) = true;
    option idempotency_level = NO_SIDE_EFFECTS;
  }
  rpc Follow(ledger.v1.OpenAccountRequest) returns (stream ledger.v1.OpenAccountResponse) {
    option (rolecall.v1.requires_role) = "till.clerk";
    option (rolecall.v1.requires_proof) = true;
  }
}
service Everything {
  rpc Settle(ledger.v1.OpenAccountRequest) returns (ledger.v1.OpenAccountResponse) {
    option (rolecall.v1.requires_role) = "till.clerk";
    option (rolecall.v1.requires_user) = true;
    option (rolecall.v1.requires_proof) = true;
    option (rolecall.v1.exactly_once) = true;
    option idempotency_level = IDEMPOTENT;
  }
}
`

const (
	clerk   = "/service/clerk"
	manager = "/service/manager"

	pay     = "/till.v1.Till/Pay"
	payOnce = "/till.v1.Till/PayOnce"
	open    = "/till.v1.Till/Open"
	show    = "/till.v1.Till/Show"
	look    = "/till.v1.Till/Look"
	touch   = "/till.v1.Till/Touch"
	gaze    = "/till.v1.Till/Gaze"
	follow  = "/till.v1.Till/Follow"
	settle  = "/till.v1.Everything/Settle"
)

const tillRoles = `
trustDomain: mesh.local
bindings:
  - role: till.clerk
    members: [spiffe://mesh.local/service/clerk, spiffe://other.example/service/clerk]
  - role: till.manager
    members: [spiffe://mesh.local/service/manager]
`

// registering compiles tillProto for the whole process, as generated code would register itself.
var registering sync.Mutex

func registerTill(t testing.TB) {
	t.Helper()
	const path = "till/v1/till.proto"
	registering.Lock()
	defer registering.Unlock()
	if _, err := protoregistry.GlobalFiles.FindFileByPath(path); err == nil {
		return
	}
	accessor := func(name string) (io.ReadCloser, error) {
		if name == path {
			return io.NopCloser(strings.NewReader(tillProto)), nil
		}
		return os.Open(filepath.Join("..", "proto", filepath.FromSlash(name)))
	}
	compiler := protocompile.Compiler{Resolver: protocompile.WithStandardImports(&protocompile.SourceResolver{Accessor: accessor})}
	files, err := compiler.Compile(context.Background(), path)
	if err != nil {
		t.Fatal(err)
	}
	file, err := protodesc.NewFile(protodesc.ToFileDescriptorProto(files[0]), protoregistry.GlobalFiles)
	if err == nil {
		err = protoregistry.GlobalFiles.RegisterFile(file)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// till is a service whose handlers do what a test tells them.
type till struct {
	reached atomic.Int64
	handle  func(context.Context, *ledgerv1.OpenAccountRequest) (any, error) // nil: an empty response
	stream  func(grpc.ServerStream) error                                    // nil: the first message is read, one is sent, and then nothing
	bypass  bool                                                             // the handlers ask neither for the request nor for interceptors
}

func (s *till) method(service, name string) grpc.MethodDesc {
	return grpc.MethodDesc{MethodName: name, Handler: func(impl any, ctx context.Context, body func(any) error, chain grpc.UnaryServerInterceptor) (any, error) {
		if s.bypass {
			s.reached.Add(1)
			return &ledgerv1.OpenAccountResponse{}, nil
		}
		request := &ledgerv1.OpenAccountRequest{}
		if err := body(request); err != nil {
			return nil, err
		}
		handler := func(ctx context.Context, request any) (any, error) {
			s.reached.Add(1)
			if s.handle == nil {
				return &ledgerv1.OpenAccountResponse{}, nil
			}
			return s.handle(ctx, request.(*ledgerv1.OpenAccountRequest))
		}
		if chain == nil {
			return handler(ctx, request)
		}
		return chain(ctx, request, &grpc.UnaryServerInfo{Server: impl, FullMethod: "/" + service + "/" + name}, handler)
	}}
}

func (s *till) register(server *interceptors.Server) {
	desc := &grpc.ServiceDesc{ServiceName: "till.v1.Till", HandlerType: (*any)(nil), Metadata: "till/v1/till.proto"}
	for _, name := range []string{"Pay", "PayOnce", "Open", "Show", "Look", "Touch"} {
		desc.Methods = append(desc.Methods, s.method(desc.ServiceName, name))
	}
	serve := func(_ any, stream grpc.ServerStream) error {
		if s.stream != nil {
			s.reached.Add(1)
			return s.stream(stream)
		}
		if err := stream.RecvMsg(&ledgerv1.OpenAccountRequest{}); err != nil {
			return err
		}
		s.reached.Add(1)
		if err := stream.SendMsg(&ledgerv1.OpenAccountResponse{}); err != nil {
			return err
		}
		<-stream.Context().Done()
		return stream.Context().Err()
	}
	desc.Streams = []grpc.StreamDesc{{StreamName: "Gaze", ServerStreams: true, Handler: serve}, {StreamName: "Follow", ServerStreams: true, Handler: serve}}
	server.RegisterService(desc, s)
}

// newTill returns a mesh whose server has a till.
func newTill(t *testing.T, configure ...func(*meshConfig)) (*mesh, *till) {
	t.Helper()
	registerTill(t)
	s := &till{}
	return newMesh(t, append([]func(*meshConfig){bindings(tillRoles), func(c *meshConfig) { c.register = s.register }}, configure...)...), s
}

// ask calls a method of the till.
func ask(ctx context.Context, conn grpc.ClientConnInterface, method string, opts ...grpc.CallOption) error {
	return conn.Invoke(ctx, method, &ledgerv1.OpenAccountRequest{Owner: "alice"}, &ledgerv1.OpenAccountResponse{}, opts...)
}

// proving adds proofs to a call.
func proving(ctx context.Context, proofs ...fakeProof) context.Context {
	for _, p := range proofs {
		ctx = metadata.AppendToOutgoingContext(ctx, "rolecall-proof", p.text())
	}
	return ctx
}

// followOnce opens the stream with proofs and waits for its first message or its end.
func followOnce(ctx context.Context, conn grpc.ClientConnInterface) (grpc.ClientStream, error) {
	return streamOnce(ctx, conn, follow)
}

func streamOnce(ctx context.Context, conn grpc.ClientConnInterface, method string) (grpc.ClientStream, error) {
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, method)
	if err != nil {
		return nil, err
	}
	if err := stream.SendMsg(&ledgerv1.OpenAccountRequest{}); err != nil && err != io.EOF {
		return nil, err
	}
	if err := stream.CloseSend(); err != nil {
		return nil, err
	}
	return stream, stream.RecvMsg(&ledgerv1.OpenAccountResponse{})
}
