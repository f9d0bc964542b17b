package proof_test

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
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/dynamicpb"

	"example.com/rolecall/interceptors"
)

const bankProto = `syntax = "proto3";
package bank.v1;
import "rolecall/v1/access.proto";
message PayRequest { string to = 1; int64 amount = 2; }
message PayResponse { int64 paid = 1; string to = 2; }
service Bank {
  option (rolecall.v1.role) = {name: "bank.payer"};
  option (rolecall.v1.role) = {name: "bank.admin" includes: "bank.payer"};
  rpc Pay(PayRequest) returns (PayResponse) {
    option (rolecall.v1.requires_role) = "bank.payer";
    option (rolecall.v1.requires_proof) = true;
  }
  rpc Gift(PayRequest) returns (PayResponse) {
    option (rolecall.v1.requires_role) = "bank.payer";
    option (rolecall.v1.requires_proof) = true;
  }
  rpc Quote(PayRequest) returns (PayResponse) {
    option (rolecall.v1.requires_role) = "bank.payer";
    option (rolecall.v1.requires_proof) = true;
    option idempotency_level = NO_SIDE_EFFECTS;
  }
  rpc Look(PayRequest) returns (PayResponse) { option (rolecall.v1.any_workload) = true; }
  rpc Watch(PayRequest) returns (stream PayResponse) {
    option (rolecall.v1.requires_role) = "bank.payer";
    option (rolecall.v1.requires_proof) = true;
  }
}
service Till {
  rpc Pay(PayRequest) returns (PayResponse) {
    option (rolecall.v1.requires_role) = "bank.payer";
    option (rolecall.v1.requires_proof) = true;
  }
}
`

// newerProto is the same as a client may have it that is newer than the server.
const newerProto = `syntax = "proto3";
package bank.v1;
message PayRequest { string to = 1; int64 amount = 2; string memo = 3; }
`

const (
	pay   = "/bank.v1.Bank/Pay"
	gift  = "/bank.v1.Bank/Gift"
	quote = "/bank.v1.Bank/Quote"
	look  = "/bank.v1.Bank/Look"
	watch = "/bank.v1.Bank/Watch"
	till  = "/bank.v1.Till/Pay"
)

func compile(t testing.TB, path, text string) protoreflect.FileDescriptor {
	t.Helper()
	open := func(name string) (io.ReadCloser, error) {
		if name == path {
			return io.NopCloser(strings.NewReader(text)), nil
		}
		return os.Open(filepath.Join("..", "..", "proto", filepath.FromSlash(name)))
	}
	compiler := protocompile.Compiler{Resolver: protocompile.WithStandardImports(&protocompile.SourceResolver{Accessor: open})}
	files, err := compiler.Compile(context.Background(), path)
	must(t, err)
	return files[0]
}

// registering compiles proto files for the whole process, as generated code would register itself.
var registering sync.Mutex

func register(t testing.TB, path, text string) protoreflect.FileDescriptor {
	t.Helper()
	registering.Lock()
	defer registering.Unlock()
	if file, err := protoregistry.GlobalFiles.FindFileByPath(path); err == nil {
		return file
	}
	file, err := protodesc.NewFile(protodesc.ToFileDescriptorProto(compile(t, path, text)), protoregistry.GlobalFiles)
	must(t, err)
	must(t, protoregistry.GlobalFiles.RegisterFile(file))
	return file
}

func bankFile(t testing.TB) protoreflect.FileDescriptor {
	t.Helper()
	return register(t, "bank.proto", bankProto)
}

func newMessage(t testing.TB, file protoreflect.FileDescriptor, name protoreflect.Name) *dynamicpb.Message {
	t.Helper()
	return dynamicpb.NewMessage(file.Messages().ByName(name))
}

func set(m *dynamicpb.Message, field string, value any) *dynamicpb.Message {
	m.Set(m.Descriptor().Fields().ByName(protoreflect.Name(field)), protoreflect.ValueOf(value))
	return m
}

func get(m protoreflect.ProtoMessage, field string) protoreflect.Value {
	r := m.ProtoReflect()
	return r.Get(r.Descriptor().Fields().ByName(protoreflect.Name(field)))
}

// payment is a request.
func payment(t testing.TB, to string, amount int64) *dynamicpb.Message {
	return set(set(newMessage(t, bankFile(t), "PayRequest"), "to", to), "amount", amount)
}

func paid(t testing.TB) *dynamicpb.Message { return newMessage(t, bankFile(t), "PayResponse") }

// bank is a service that is paid with signed requests.
type bank struct {
	t       testing.TB
	reached atomic.Int64
	total   atomic.Int64
	mu      sync.Mutex
	handle  func(context.Context, *dynamicpb.Message) error
}

// handling sets what is done with each request.
func (b *bank) handling(handle func(context.Context, *dynamicpb.Message) error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.handle = handle
}

func (b *bank) serve(ctx context.Context, request *dynamicpb.Message) (*dynamicpb.Message, error) {
	b.reached.Add(1)
	b.mu.Lock()
	handle := b.handle
	b.mu.Unlock()
	if handle != nil {
		if err := handle(ctx, request); err != nil {
			return nil, err
		}
	}
	total := b.total.Add(get(request, "amount").Int())
	return set(set(paid(b.t), "paid", total), "to", get(request, "to").String()), nil
}

func (b *bank) method(name string) grpc.MethodDesc {
	return grpc.MethodDesc{MethodName: name, Handler: func(_ any, ctx context.Context, body func(any) error, chain grpc.UnaryServerInterceptor) (any, error) {
		request := newMessage(b.t, bankFile(b.t), "PayRequest")
		if err := body(request); err != nil {
			return nil, err
		}
		if chain == nil {
			return b.serve(ctx, request)
		}
		return chain(ctx, request, &grpc.UnaryServerInfo{Server: b, FullMethod: name}, func(ctx context.Context, request any) (any, error) {
			return b.serve(ctx, request.(*dynamicpb.Message))
		})
	}}
}

func (b *bank) register(server *interceptors.Server) {
	bankFile(b.t)
	server.RegisterService(&grpc.ServiceDesc{
		ServiceName: "bank.v1.Bank", HandlerType: (*any)(nil), Metadata: "bank.proto",
		Methods: []grpc.MethodDesc{b.method("Pay"), b.method("Gift"), b.method("Quote"), b.method("Look")},
		Streams: []grpc.StreamDesc{{StreamName: "Watch", ServerStreams: true, Handler: func(_ any, stream grpc.ServerStream) error {
			request := newMessage(b.t, bankFile(b.t), "PayRequest")
			if err := stream.RecvMsg(request); err != nil {
				return err
			}
			response, err := b.serve(stream.Context(), request)
			if err != nil {
				return err
			}
			for range 3 {
				if err := stream.SendMsg(response); err != nil {
					return err
				}
			}
			return nil
		}}},
	}, b)
	server.RegisterService(&grpc.ServiceDesc{
		ServiceName: "bank.v1.Till", HandlerType: (*any)(nil), Metadata: "bank.proto", Methods: []grpc.MethodDesc{b.method("Pay")},
	}, b)
}
