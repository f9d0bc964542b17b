package call_test

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"

	"example.com/rolecall/interceptors"
	"example.com/rolecall/internal/call"
	"example.com/rolecall/rolecalltest"
)

// shopService returns a method of the shop.
func shopService(t *testing.T, files *protoregistry.Files, method string) call.Method {
	t.Helper()
	d, err := files.FindDescriptorByName("shop.v1.ShopService")
	if err != nil {
		t.Fatal(err)
	}
	s := call.Service{Descriptor: d.(protoreflect.ServiceDescriptor), Types: dynamicpb.NewTypes(files)}
	m, err := call.Find([]call.Service{s}, "ShopService/"+method)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestAServiceThatNobodyKnewIsLearnedFromItsServer(t *testing.T) {
	t.Parallel()
	ca := rolecalltest.NewCA(t, "mesh.local")
	conn := dial(t, ca, "alice", server(t, ca, described(t)))
	services, err := call.Reflect(patience(t), conn)
	if err != nil {
		t.Fatal(err)
	}
	if len(services) != 1 || !services[0].Reflected {
		t.Fatalf("got %v, want the shop alone", services)
	}
	m, err := call.Find(services, "ShopService/Buy")
	if err != nil {
		t.Fatal(err)
	}
	want := call.Requires{Roles: []string{"shop.buyer"}, User: true, Proof: true, ExactlyOnce: true}
	if diff := cmp.Diff(want, m.Requires); diff != "" {
		t.Errorf("requires (-want +got):\n%s", diff)
	}
	if got, want := m.Requires.String(), "shop.buyer + a user + proof + exactly once"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestWhoMayNotAskAServerWhatItHasIsToldSo(t *testing.T) {
	t.Parallel()
	ca := rolecalltest.NewCA(t, "mesh.local")
	conn := dial(t, ca, "bob", server(t, ca, described(t)))
	services, err := call.Reflect(patience(t), conn)
	lines := strings.Join(call.NewFailure(err, "").Lines(), "\n")
	if err == nil || !strings.Contains(lines, "PERMISSION_DENIED: ") || !strings.Contains(lines, "rolecall.reflector") {
		t.Errorf("got %v and\n%s", services, lines)
	}
}

// liar answers reflection with what it likes.
type liar struct {
	reflectionv1.UnimplementedServerReflectionServer
	answer func(*reflectionv1.ServerReflectionRequest) [][]byte
}

func (l liar) ServerReflectionInfo(s reflectionv1.ServerReflection_ServerReflectionInfoServer) error {
	for {
		request, err := s.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		response := &reflectionv1.ServerReflectionResponse{MessageResponse: &reflectionv1.ServerReflectionResponse_FileDescriptorResponse{
			FileDescriptorResponse: &reflectionv1.FileDescriptorResponse{FileDescriptorProto: l.answer(request)},
		}}
		if _, ok := request.GetMessageRequest().(*reflectionv1.ServerReflectionRequest_ListServices); ok {
			response.MessageResponse = &reflectionv1.ServerReflectionResponse_ListServicesResponse{
				ListServicesResponse: &reflectionv1.ListServiceResponse{Service: []*reflectionv1.ServiceResponse{{Name: "a.B"}}},
			}
		}
		if err := s.Send(response); err != nil {
			return err
		}
	}
}

func TestAServerThatDescribesItselfWronglyIsFoundOut(t *testing.T) {
	t.Parallel()
	file := func(name string, imports ...string) []byte {
		data, err := proto.Marshal(&descriptorpb.FileDescriptorProto{Name: &name, Dependency: imports})
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	var sent atomic.Int64
	for name, tc := range map[string]struct {
		answer func(*reflectionv1.ServerReflectionRequest) [][]byte
		want   string
	}{
		"it sends no file":                 {func(*reflectionv1.ServerReflectionRequest) [][]byte { return nil }, "does not describe it"},
		"it sends another file than asked": {func(*reflectionv1.ServerReflectionRequest) [][]byte { return [][]byte{file("a", "b")} }, "does not have the file b"},
		"it sends files without end": {func(*reflectionv1.ServerReflectionRequest) [][]byte {
			n := sent.Add(1)
			return [][]byte{file(fmt.Sprint(n), fmt.Sprint(n+1))}
		}, "more than"},
		"it sends no descriptor":         {func(*reflectionv1.ServerReflectionRequest) [][]byte { return [][]byte{{0xff}} }, "cannot be read"},
		"a file imports itself":          {func(*reflectionv1.ServerReflectionRequest) [][]byte { return [][]byte{file("a", "a")} }, "does not fit together"},
		"it sends the files in a circle": {func(*reflectionv1.ServerReflectionRequest) [][]byte { return [][]byte{file("a", "b"), file("b", "a")} }, "does not fit together"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ca := rolecalltest.NewCA(t, "mesh.local")
			conn := dial(t, ca, "alice", server(t, ca, func(s *interceptors.Server) {
				reflectionv1.RegisterServerReflectionServer(s, liar{answer: tc.answer})
			}))
			if services, err := call.Reflect(patience(t), conn); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, %v; want %q", services, err, tc.want)
			}
		})
	}
}
