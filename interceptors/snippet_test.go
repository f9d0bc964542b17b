package interceptors_test

import (
	"bytes"
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/bufbuild/protocompile"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoregistry"

	rolecallv1 "example.com/rolecall/gen/rolecall/v1"
	"example.com/rolecall/interceptors"
	"example.com/rolecall/rolecalltest"
)

// unannotated is a proto file whose author forgot who may call Buy.
const unannotated = `syntax = "proto3";
package shop.v1;
import "rolecall/v1/access.proto";
service ShopService {
  option (rolecall.v1.role) = { name: "shop.writer" description: "Buy." };
  rpc Buy(BuyRequest) returns (BuyResponse) {
  }
}
message BuyRequest {}
message BuyResponse {}
`

// TestPastingTheSnippetMakesTheServerStart starts a server from a proto file in a process of its own, since descriptors
// are registered once in a process, reads the snippet in its refusal, pastes it, and starts it again.
func TestPastingTheSnippetMakesTheServerStart(t *testing.T) {
	t.Parallel()
	if file := os.Getenv("ROLECALL_TEST_PROTO"); file != "" {
		serveProto(t, file)
		return
	}
	file := filepath.Join(t.TempDir(), "shop.proto")
	start := func(text string) string {
		must(t, os.WriteFile(file, []byte(text), 0o600))
		cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
		cmd.Env = append(os.Environ(), "ROLECALL_TEST_PROTO="+file)
		out, _ := cmd.CombinedOutput()
		return string(out)
	}
	refusal := start(unannotated)
	if !strings.Contains(refusal, "does not start") || !strings.Contains(refusal, "shop.v1.ShopService/Buy") {
		t.Fatalf("the server did not refuse to start:\n%s", refusal)
	}
	snippet := regexp.MustCompile(`option \(rolecall\.v1\.requires_role\) = "[^"]+";`).FindString(refusal)
	if snippet == "" {
		t.Fatalf("no snippet in the refusal:\n%s", refusal)
	}
	t.Logf("the refusal:\n%s", refusal)
	pasted := strings.Replace(unannotated, "returns (BuyResponse) {\n", "returns (BuyResponse) {\n    "+snippet+"\n", 1)
	if out := start(pasted); !strings.Contains(out, "SERVING") {
		t.Fatalf("the server did not start with\n%s\nbut said\n%s", pasted, out)
	}
}

func serveProto(t *testing.T, file string) {
	text, err := os.ReadFile(file)
	must(t, err)
	compiler := protocompile.Compiler{Resolver: protocompile.WithStandardImports(&protocompile.SourceResolver{
		Accessor: protocompile.SourceAccessorFromMap(map[string]string{"shop.proto": string(text), "rolecall/v1/access.proto": accessProto(t)}),
	})}
	files, err := compiler.Compile(t.Context(), "shop.proto")
	must(t, err)
	described := protodesc.ToFileDescriptorProto(files[0])
	descriptor, err := protodesc.NewFile(described, protoregistry.GlobalFiles)
	must(t, err)
	must(t, protoregistry.GlobalFiles.RegisterFile(descriptor))

	ca := rolecalltest.NewCA(t, "mesh.local")
	guard, err := interceptors.New(ca.Source("/service/shop"), interceptors.BindingsYAML([]byte("trustDomain: mesh.local\n")))
	must(t, err)
	t.Cleanup(func() { _ = guard.Close() })
	srv := guard.NewServer()
	srv.RegisterService(&grpc.ServiceDesc{ServiceName: "shop.v1.ShopService", Methods: []grpc.MethodDesc{{
		MethodName: "Buy",
		Handler:    func(any, context.Context, func(any) error, grpc.UnaryServerInterceptor) (any, error) { return nil, nil },
	}}, Metadata: "shop.proto"}, nil)
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	go func() {
		// Whoever gets through a handshake proves that the server serves.
		conn, err := guard.NewClient(lis.Addr().String(), ca.ID("/service/shop"))
		if err == nil && refusedWith(conn.Invoke(context.Background(), "/shop.v1.ShopService/Buy", &rolecallv1.Role{}, &rolecallv1.Role{}, grpc.WaitForReady(true))) == codes.PermissionDenied {
			_, _ = os.Stdout.WriteString("SERVING\n")
		}
		if err == nil {
			_ = conn.Close()
		}
		srv.Stop()
	}()
	must(t, srv.Serve(lis))
}

func accessProto(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../proto/rolecall/v1/access.proto")
	must(t, err)
	return string(bytes.ToValidUTF8(text, nil))
}
