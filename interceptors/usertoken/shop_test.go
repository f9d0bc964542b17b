package usertoken_test

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
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/emptypb"

	"example.com/rolecall/interceptors"
)

const shopProto = `syntax = "proto3";
package shop.v1;
import "google/protobuf/empty.proto";
import "rolecall/v1/access.proto";
service Shop {
  option (rolecall.v1.role) = {name: "shop.seller"};
  option (rolecall.v1.role) = {name: "shop.customer"};
  option (rolecall.v1.role) = {name: "shop.vip" includes: "shop.customer"};
  rpc Look(google.protobuf.Empty) returns (google.protobuf.Empty) { option (rolecall.v1.any_workload) = true; }
  rpc Self(google.protobuf.Empty) returns (google.protobuf.Empty) {
    option (rolecall.v1.any_workload) = true;
    option (rolecall.v1.requires_user) = true;
  }
  rpc Buy(google.protobuf.Empty) returns (google.protobuf.Empty) {
    option (rolecall.v1.requires_role) = "shop.seller";
    option (rolecall.v1.requires_user_role) = "shop.customer";
  }
  rpc Sell(google.protobuf.Empty) returns (google.protobuf.Empty) { option (rolecall.v1.requires_role) = "shop.seller"; }
  rpc Watch(google.protobuf.Empty) returns (stream google.protobuf.Empty) {
    option (rolecall.v1.any_workload) = true;
    option (rolecall.v1.requires_user) = true;
  }
}
`

const (
	look  = "/shop.v1.Shop/Look"
	self  = "/shop.v1.Shop/Self"
	buy   = "/shop.v1.Shop/Buy"
	sell  = "/shop.v1.Shop/Sell"
	watch = "/shop.v1.Shop/Watch"
)

// registering compiles proto files for the whole process, as generated code would register itself.
var registering sync.Mutex

func registerProto(t testing.TB, path, text string) {
	t.Helper()
	registering.Lock()
	defer registering.Unlock()
	if _, err := protoregistry.GlobalFiles.FindFileByPath(path); err == nil {
		return
	}
	open := func(name string) (io.ReadCloser, error) {
		if name == path {
			return io.NopCloser(strings.NewReader(text)), nil
		}
		return os.Open(filepath.Join("..", "..", "proto", filepath.FromSlash(name)))
	}
	compiler := protocompile.Compiler{Resolver: protocompile.WithStandardImports(&protocompile.SourceResolver{Accessor: open})}
	files, err := compiler.Compile(context.Background(), path)
	must(t, err)
	file, err := protodesc.NewFile(protodesc.ToFileDescriptorProto(files[0]), protoregistry.GlobalFiles)
	must(t, err)
	must(t, protoregistry.GlobalFiles.RegisterFile(file))
}

// shop is a service that users buy from.
type shop struct {
	reached atomic.Int64
	mu      sync.Mutex
	handle  func(ctx context.Context) error // of every unary method
	stream  func(grpc.ServerStream) error   // instead of being idle
}

func (s *shop) unary(ctx context.Context) error {
	s.reached.Add(1)
	s.mu.Lock()
	handle := s.handle
	s.mu.Unlock()
	if handle == nil {
		return nil
	}
	return handle(ctx)
}

// handling sets what unary methods do.
func (s *shop) handling(handle func(context.Context) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.handle = handle
}

func unaryMethod(name string, handle func(context.Context) error) grpc.MethodDesc {
	return grpc.MethodDesc{MethodName: name, Handler: func(impl any, ctx context.Context, body func(any) error, chain grpc.UnaryServerInterceptor) (any, error) {
		request := &emptypb.Empty{}
		if err := body(request); err != nil {
			return nil, err
		}
		return &emptypb.Empty{}, handle(ctx)
	}}
}

func (s *shop) register(t testing.TB, server *interceptors.Server) {
	registerProto(t, "shop.proto", shopProto)
	server.RegisterService(&grpc.ServiceDesc{
		ServiceName: "shop.v1.Shop", HandlerType: (*any)(nil), Metadata: "shop.proto",
		Methods: []grpc.MethodDesc{unaryMethod("Look", s.unary), unaryMethod("Self", s.unary), unaryMethod("Buy", s.unary), unaryMethod("Sell", s.unary)},
		Streams: []grpc.StreamDesc{{StreamName: "Watch", ServerStreams: true, Handler: func(_ any, stream grpc.ServerStream) error {
			s.reached.Add(1)
			if err := stream.RecvMsg(&emptypb.Empty{}); err != nil {
				return err
			}
			if err := stream.SendMsg(&emptypb.Empty{}); err != nil {
				return err
			}
			if s.stream != nil {
				return s.stream(stream)
			}
			<-stream.Context().Done()
			return stream.Context().Err()
		}}},
	}, s)
}

// invoke calls a unary method.
func invoke(ctx context.Context, conn grpc.ClientConnInterface, method string, opts ...grpc.CallOption) error {
	return conn.Invoke(ctx, method, &emptypb.Empty{}, &emptypb.Empty{}, opts...)
}

// open opens the stream and waits for its first message, after which it is idle.
func open(ctx context.Context, conn grpc.ClientConnInterface) (grpc.ClientStream, error) {
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, watch)
	if err != nil {
		return nil, err
	}
	if err := stream.SendMsg(&emptypb.Empty{}); err != nil {
		return nil, err
	}
	if err := stream.CloseSend(); err != nil {
		return nil, err
	}
	return stream, stream.RecvMsg(&emptypb.Empty{})
}
