package exactlyonce_test

import (
	"context"
	"database/sql"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/bufbuild/protocompile"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoregistry"

	ledgerv1 "example.com/rolecall/gen/ledger/v1"
	"example.com/rolecall/interceptors"
	"example.com/rolecall/interceptors/exactlyonce"
	"example.com/rolecall/rolecalltest"
)

const safeProto = `syntax = "proto3";
package safe.v1;
import "ledger/v1/ledger.proto";
import "rolecall/v1/access.proto";
service Safe {
  rpc Put(ledger.v1.TransferRequest) returns (ledger.v1.TransferResponse) {
    option (rolecall.v1.any_workload) = true;
    option (rolecall.v1.exactly_once) = true;
    option idempotency_level = IDEMPOTENT;
  }
  rpc Look(ledger.v1.TransferRequest) returns (ledger.v1.TransferResponse) { option (rolecall.v1.any_workload) = true; }
}
`

const (
	put  = "/safe.v1.Safe/Put"
	look = "/safe.v1.Safe/Look"
)

// registerSafe compiles the proto file for the whole process, as generated code would register itself.
var registerSafe = sync.OnceValue(func() error {
	open := func(name string) (io.ReadCloser, error) {
		if name == "safe.proto" {
			return io.NopCloser(strings.NewReader(safeProto)), nil
		}
		return os.Open(filepath.Join("..", "..", "proto", filepath.FromSlash(name)))
	}
	compiler := protocompile.Compiler{Resolver: protocompile.WithStandardImports(&protocompile.SourceResolver{Accessor: open})}
	files, err := compiler.Compile(context.Background(), "safe.proto")
	if err != nil {
		return err
	}
	file, err := protodesc.NewFile(protodesc.ToFileDescriptorProto(files[0]), protoregistry.GlobalFiles)
	if err != nil {
		return err
	}
	return protoregistry.GlobalFiles.RegisterFile(file)
})

type handler func(context.Context, *ledgerv1.TransferRequest) (proto.Message, error)

func method(name string, handle handler) grpc.MethodDesc {
	return grpc.MethodDesc{MethodName: name, Handler: func(impl any, ctx context.Context, body func(any) error, chain grpc.UnaryServerInterceptor) (any, error) {
		request := &ledgerv1.TransferRequest{}
		if err := body(request); err != nil {
			return nil, err
		}
		run := func(ctx context.Context, request any) (any, error) {
			return handle(ctx, request.(*ledgerv1.TransferRequest))
		}
		if chain == nil {
			return run(ctx, request)
		}
		return chain(ctx, request, &grpc.UnaryServerInfo{Server: impl, FullMethod: "/safe.v1.Safe/" + name}, run)
	}}
}

// serve starts a server over mTLS with the feature, and returns a client of it.
func serve(t *testing.T, requests *exactlyonce.Requests, handle handler) grpc.ClientConnInterface {
	t.Helper()
	return serveWith(t, requests, handle, slog.DiscardHandler)
}

// serveWith is serve with a place for audit records, and with interceptors of the adopter's own.
func serveWith(t *testing.T, requests *exactlyonce.Requests, handle handler, audit slog.Handler, opts ...grpc.ServerOption) grpc.ClientConnInterface {
	t.Helper()
	if err := registerSafe(); err != nil {
		t.Fatal(err)
	}
	ca := rolecalltest.NewCA(t, "mesh.local")
	guard := func(path string, options ...interceptors.Option) *interceptors.Guard {
		g, err := interceptors.New(ca.Source(path), interceptors.BindingsFile(bindings(t)), append(options,
			interceptors.Audit(audit), interceptors.AuditAllowed(), interceptors.Logger(slog.New(slog.DiscardHandler)))...)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := g.Close(); err != nil {
				t.Errorf("close the guard: %v", err)
			}
		})
		return g
	}
	server := guard("/service/safe", interceptors.With(requests)).NewServer(opts...)
	server.RegisterService(&grpc.ServiceDesc{
		ServiceName: "safe.v1.Safe", HandlerType: (*any)(nil), Metadata: "safe.proto",
		Methods: []grpc.MethodDesc{method("Put", handle), method("Look", func(context.Context, *ledgerv1.TransferRequest) (proto.Message, error) {
			return &ledgerv1.TransferResponse{}, nil
		})},
	}, nil)
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(lis) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	conn, err := guard("/service/orders").NewClient("passthrough:///"+lis.Addr().String(), ca.ID("/service/safe"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func bindings(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "roles.yaml")
	if err := os.WriteFile(path, []byte("trustDomain: mesh.local\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func send(t *testing.T, conn grpc.ClientConnInterface, id string) (*ledgerv1.TransferResponse, error) {
	t.Helper()
	response := &ledgerv1.TransferResponse{}
	return response, conn.Invoke(t.Context(), put, &ledgerv1.TransferRequest{RequestId: id, Note: "x"}, response)
}

// endpoint counts, in the three steps of an Endpoint.
var endpoint = exactlyonce.Endpoint[*ledgerv1.TransferRequest, int64, *ledgerv1.TransferResponse]{
	Load: func(ctx context.Context, tx *sql.Tx, _ *ledgerv1.TransferRequest) (n int64, err error) {
		return n, tx.QueryRowContext(ctx, "SELECT times FROM effects WHERE name = 'n'").Scan(&n)
	},
	Update: func(ctx context.Context, tx *sql.Tx, _ *ledgerv1.TransferRequest, n *int64) error {
		*n++
		_, err := tx.ExecContext(ctx, "UPDATE effects SET times = $1 WHERE name = 'n'", *n)
		return err
	},
	Respond: func(request *ledgerv1.TransferRequest, n int64) *ledgerv1.TransferResponse {
		return &ledgerv1.TransferResponse{Transfer: &ledgerv1.TransferRecord{TransferId: request.GetRequestId(), Amount: &ledgerv1.Money{MinorUnits: n}}}
	},
}

func TestAServerAnswersARepetitionFromWhatIsStored(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, k *kit) {
		requests := exactlyonce.New(exactlyonce.Config{DB: adopt(k.url, k.db)})
		conn := serve(t, requests, func(ctx context.Context, request *ledgerv1.TransferRequest) (proto.Message, error) {
			if caller := interceptors.CallerFrom(ctx); caller.ID().String() != orders {
				t.Errorf("the handler is called by %v", caller.ID())
			}
			return endpoint.Handle(ctx, request)
		})
		id := newID()
		first, err := send(t, conn, id)
		if err != nil {
			t.Fatal(err)
		}
		again, err := send(t, conn, id)
		if err != nil || !proto.Equal(first, again) || first.GetTransfer().GetAmount().GetMinorUnits() != 1 {
			t.Errorf("got %v, %v, want %v", again, err, first)
		}
		if second, err := send(t, conn, ""); err != nil || second.GetTransfer().GetAmount().GetMinorUnits() != 2 {
			t.Errorf("another request, whose request_id the client fills in: got %v, %v", second, err)
		}
		if _, err := send(t, conn, "no UUID"); status.Code(err) != codes.InvalidArgument {
			t.Errorf("got %v, want InvalidArgument", err)
		}
		k.check(t, 2, 2, 0)
		found, err := requests.Find(t.Context(), exactlyonce.Key{Method: put, Peer: orders, RequestID: id})
		if err != nil || found == nil || found.Refusal != nil {
			t.Errorf("find: got %v, %v", found, err)
		}
	})
}

func TestAHandlerThatCallsAnotherServiceInsideTheTransactionIsRefused(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, k *kit) {
		requests := exactlyonce.New(exactlyonce.Config{DB: adopt(k.url, k.db)})
		var conn grpc.ClientConnInterface
		var ready sync.WaitGroup
		ready.Add(1)
		var refusal atomic.Value
		conn = serve(t, requests, func(ctx context.Context, request *ledgerv1.TransferRequest) (proto.Message, error) {
			ready.Wait()
			response, err := endpoint.Handle(ctx, request)
			if err := conn.Invoke(ctx, look, &ledgerv1.TransferRequest{}, &ledgerv1.TransferResponse{}); err != nil {
				refusal.Store(err)
				return nil, err
			}
			return response, err
		})
		ready.Done()
		_, err := send(t, conn, newID())
		inside, _ := refusal.Load().(error)
		if status.Code(err) != codes.Internal || inside == nil || !strings.Contains(inside.Error(), "inside a transaction") {
			t.Errorf("the caller got %v, the handler %v", err, inside)
		}
		k.check(t, 0, 0, 0)
	})
}

func TestAServerWhoseDatabaseDoesNotAnswerDoesNotStart(t *testing.T) {
	t.Parallel()
	if err := registerSafe(); err != nil {
		t.Fatal(err)
	}
	ca := rolecalltest.NewCA(t, "mesh.local")
	guard, err := interceptors.New(ca.Source("/service/safe"), interceptors.BindingsFile(bindings(t)),
		interceptors.With(exactlyonce.New(exactlyonce.Config{DB: unopened{}})))
	if err != nil {
		t.Fatal(err)
	}
	defer guard.Close()
	server := guard.NewServer()
	server.RegisterService(&grpc.ServiceDesc{ServiceName: "safe.v1.Safe", HandlerType: (*any)(nil), Metadata: "safe.proto",
		Methods: []grpc.MethodDesc{method("Put", nil), method("Look", nil)}}, nil)
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Serve(lis); err == nil || !strings.Contains(err.Error(), "not open yet") {
		t.Errorf("got %v", err)
	}
}
