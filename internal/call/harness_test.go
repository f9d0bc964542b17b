package call_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/bufbuild/protocompile"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	testing_v1 "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/reflection"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"example.com/rolecall/interceptors"
	"example.com/rolecall/internal/call"
	"example.com/rolecall/internal/leaktest"
	"example.com/rolecall/rolecalltest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

const bindings = `
trustDomain: mesh.local
bindings:
  - {role: rolecall.reflector, members: [spiffe://mesh.local/operator/alice]}
`

// shop is a service that no program was built with.
const shop = `
syntax = "proto3";
package shop.v1;
import "google/protobuf/any.proto";
import "rolecall/v1/access.proto";
service ShopService {
  option (rolecall.v1.role) = { name: "shop.buyer" description: "Buy." };
  rpc Buy(BuyRequest) returns (BuyResponse) {
    option (rolecall.v1.requires_role) = "shop.buyer";
    option (rolecall.v1.requires_user) = true;
    option (rolecall.v1.requires_proof) = true;
    option (rolecall.v1.exactly_once) = true;
    option idempotency_level = IDEMPOTENT;
  }
  rpc Look(BuyRequest) returns (stream BuyResponse) { option (rolecall.v1.any_workload) = true; }
}
message BuyRequest {
  string request_id = 1;
  string card = 2 [debug_redact = true];
  repeated Item items = 3;
  Item item = 4;
  google.protobuf.Any more = 5;
  map<string, Item> stock = 6;
}
message Item { string name = 1; string secret = 2 [debug_redact = true]; }
message BuyResponse {}
`

// shopFiles compiles the service.
func shopFiles(t *testing.T) *protoregistry.Files {
	t.Helper()
	access, err := os.ReadFile(filepath.Join("..", "..", "proto", "rolecall", "v1", "access.proto"))
	if err != nil {
		t.Fatal(err)
	}
	compiler := protocompile.Compiler{Resolver: protocompile.WithStandardImports(&protocompile.SourceResolver{
		Accessor: protocompile.SourceAccessorFromMap(map[string]string{"shop.proto": shop, "rolecall/v1/access.proto": string(access)}),
	})}
	compiled, err := compiler.Compile(t.Context(), "shop.proto")
	if err != nil {
		t.Fatal(err)
	}
	files := &protoregistry.Files{}
	var add func(protoreflect.FileDescriptor)
	add = func(f protoreflect.FileDescriptor) {
		if _, err := files.FindFileByPath(f.Path()); err == nil {
			return
		}
		for i := range f.Imports().Len() {
			add(f.Imports().Get(i).FileDescriptor)
		}
		copied, err := protodesc.NewFile(protodesc.ToFileDescriptorProto(f), files)
		if err == nil {
			err = files.RegisterFile(copied)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	add(compiled[0])
	return files
}

// names are the services that a server says it has.
type names []string

func (n names) GetServiceInfo() map[string]grpc.ServiceInfo {
	info := map[string]grpc.ServiceInfo{}
	for _, name := range n {
		info[name] = grpc.ServiceInfo{}
	}
	return info
}

// server runs a guarded server, and returns it as a peer.
func server(t *testing.T, ca *rolecalltest.CA, register func(*interceptors.Server), opts ...interceptors.Option) call.Peer {
	t.Helper()
	opts = append(opts, interceptors.Audit(slog.DiscardHandler), interceptors.Logger(slog.New(slog.DiscardHandler)))
	guard, err := interceptors.New(ca.Source("/service/shop"), interceptors.BindingsYAML([]byte(bindings)), opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { guard.Close() })
	s := guard.NewServer()
	register(s)
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(lis) }()
	t.Cleanup(func() {
		s.Stop()
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return call.Peer{Target: "passthrough:///" + lis.Addr().String(), ID: ca.ID("/service/shop")}
}

// dial returns a connection of an operator.
func dial(t *testing.T, ca *rolecalltest.CA, operator string, to call.Peer) *grpc.ClientConn {
	t.Helper()
	client, err := call.NewClient(ca.Source("/operator/"+operator), call.Peer{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := client.Close(); err != nil {
			t.Error(err)
		}
	})
	conn, err := client.Dial(to)
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

func patience(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// described describes the shop by reflection.
func described(t *testing.T) func(*interceptors.Server) {
	files := shopFiles(t)
	return func(s *interceptors.Server) {
		reflectionv1.RegisterServerReflectionServer(s, reflection.NewServerV1(reflection.ServerOptions{
			Services: names{"shop.v1.ShopService", "grpc.reflection.v1.ServerReflection"}, DescriptorResolver: files,
		}))
	}
}

// echoServer runs an echo.
func echoServer(t *testing.T, ca *rolecalltest.CA, e echo) call.Peer {
	t.Helper()
	return server(t, ca, func(s *interceptors.Server) { testing_v1.RegisterTestServiceServer(s, e) }, echoRules()...)
}

// echoRules let any workload call the echo.
func echoRules() []interceptors.Option {
	var opts []interceptors.Option
	for _, m := range testing_v1.TestService_ServiceDesc.Methods {
		opts = append(opts, interceptors.Allow("/grpc.testing.TestService/"+m.MethodName, interceptors.Rule{AnyWorkload: true}))
	}
	for _, s := range testing_v1.TestService_ServiceDesc.Streams {
		opts = append(opts, interceptors.Allow("/grpc.testing.TestService/"+s.StreamName, interceptors.Rule{AnyWorkload: true}))
	}
	return opts
}

// echo answers in each of the four shapes.
type echo struct {
	testing_v1.UnimplementedTestServiceServer
	came chan<- metadata.MD // of unary calls; nil: nobody wants it
}

func (e echo) UnaryCall(ctx context.Context, r *testing_v1.SimpleRequest) (*testing_v1.SimpleResponse, error) {
	if e.came != nil {
		md, _ := metadata.FromIncomingContext(ctx)
		e.came <- md
	}
	if r.GetResponseStatus().GetCode() != 0 {
		s, err := status.New(codes.Code(r.GetResponseStatus().GetCode()), r.GetResponseStatus().GetMessage()).WithDetails(&errdetails.ErrorInfo{Reason: "TEST", Domain: "elsewhere"})
		return nil, errors.Join(err, s.Err())
	}
	return &testing_v1.SimpleResponse{Payload: r.GetPayload()}, nil
}

func (echo) StreamingOutputCall(r *testing_v1.StreamingOutputCallRequest, s grpc.ServerStreamingServer[testing_v1.StreamingOutputCallResponse]) error {
	for _, p := range r.GetResponseParameters() {
		if p.GetSize() < 0 { // waits for the client to go
			<-s.Context().Done()
			return s.Context().Err()
		}
		if err := s.Send(&testing_v1.StreamingOutputCallResponse{Payload: &testing_v1.Payload{Body: make([]byte, p.GetSize())}}); err != nil {
			return err
		}
	}
	return nil
}

func (echo) StreamingInputCall(s grpc.ClientStreamingServer[testing_v1.StreamingInputCallRequest, testing_v1.StreamingInputCallResponse]) error {
	var sum int
	for {
		r, err := s.Recv()
		if errors.Is(err, io.EOF) {
			return s.SendAndClose(&testing_v1.StreamingInputCallResponse{AggregatedPayloadSize: int32(sum)})
		}
		if err != nil {
			return err
		}
		if string(r.GetPayload().GetBody()) == "no" {
			return status.Error(codes.InvalidArgument, "no")
		}
		sum += len(r.GetPayload().GetBody())
	}
}

func (echo) FullDuplexCall(s grpc.BidiStreamingServer[testing_v1.StreamingOutputCallRequest, testing_v1.StreamingOutputCallResponse]) error {
	for {
		r, err := s.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := s.Send(&testing_v1.StreamingOutputCallResponse{Payload: r.GetPayload()}); err != nil {
			return err
		}
	}
}
