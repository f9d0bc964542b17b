package authz

import (
	"errors"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/bufbuild/protocompile"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
)

// compileProto compiles proto files, with the annotations at hand to import, as an adopter's compiler does. The options
// in its descriptors are dynamic messages.
func compileProto(t testing.TB, sources map[string]string) []protoreflect.FileDescriptor {
	t.Helper()
	annotations, err := os.ReadFile("../../../proto/" + annotationsFile)
	if err != nil {
		t.Fatalf("read the annotations: %v", err)
	}
	all := maps.Clone(sources)
	for _, source := range sources {
		if strings.Contains(source, annotationsFile) {
			all[annotationsFile] = string(annotations)
		}
	}
	compiler := protocompile.Compiler{Resolver: protocompile.WithStandardImports(
		&protocompile.SourceResolver{Accessor: protocompile.SourceAccessorFromMap(all)})}
	files, err := compiler.Compile(t.Context(), slices.Sorted(maps.Keys(all))...)
	if err != nil {
		t.Fatalf("compile %v: %v", slices.Sorted(maps.Keys(sources)), err)
	}
	var list []protoreflect.FileDescriptor
	for _, f := range files {
		list = append(list, f)
	}
	return list
}

// rebuild makes the descriptors again from their bytes, which are read with the extensions that types knows.
func rebuild(t testing.TB, files []protoreflect.FileDescriptor, types *protoregistry.Types) *protoregistry.Files {
	t.Helper()
	set := &descriptorpb.FileDescriptorSet{}
	seen := map[string]bool{}
	var visit func(protoreflect.FileDescriptor)
	visit = func(f protoreflect.FileDescriptor) {
		if seen[f.Path()] {
			return
		}
		seen[f.Path()] = true
		for i := range f.Imports().Len() {
			visit(f.Imports().Get(i).FileDescriptor)
		}
		set.File = append(set.File, protodesc.ToFileDescriptorProto(f))
	}
	for _, f := range files {
		visit(f)
	}
	data, err := proto.Marshal(set)
	if err != nil {
		t.Fatalf("marshal descriptors: %v", err)
	}
	read := &descriptorpb.FileDescriptorSet{}
	if err := (proto.UnmarshalOptions{Resolver: types}).Unmarshal(data, read); err != nil {
		t.Fatalf("read descriptors: %v", err)
	}
	rebuilt, err := protodesc.NewFiles(read)
	if err != nil {
		t.Fatalf("rebuild descriptors: %v", err)
	}
	return rebuilt
}

// dynamicTypes returns the extensions of the files as types that are made at run time.
func dynamicTypes(t testing.TB, files []protoreflect.FileDescriptor) *protoregistry.Types {
	t.Helper()
	types := &protoregistry.Types{}
	for _, f := range files {
		for i := range f.Extensions().Len() {
			if err := types.RegisterExtension(dynamicpb.NewExtensionType(f.Extensions().Get(i))); err != nil {
				t.Fatalf("register extension: %v", err)
			}
		}
	}
	return types
}

// registry returns the files as a resolver that can range over them.
func registry(t testing.TB, files []protoreflect.FileDescriptor) *protoregistry.Files {
	t.Helper()
	r := &protoregistry.Files{}
	for _, f := range files {
		if err := r.RegisterFile(f); err != nil {
			t.Fatalf("register %s: %v", f.Path(), err)
		}
	}
	return r
}

// registered returns what a server would tell on which the services of the files are registered.
func registered(files Resolver, services ...string) map[string]grpc.ServiceInfo {
	info := map[string]grpc.ServiceInfo{}
	for _, name := range services {
		s, err := findService(files, name)
		if err != nil || s == nil {
			panic("no service " + name)
		}
		var methods []grpc.MethodInfo
		for i := range s.Methods().Len() {
			m := s.Methods().Get(i)
			methods = append(methods, grpc.MethodInfo{Name: string(m.Name()), IsClientStream: m.IsStreamingClient(), IsServerStream: m.IsStreamingServer()})
		}
		info[name] = grpc.ServiceInfo{Methods: methods}
	}
	return info
}

// shop wraps service and method options into a proto file with one service, shop.v1.Shop, and its method Buy.
func shop(serviceOptions, methodOptions string) string {
	return `syntax = "proto3";
package shop.v1;
import "rolecall/v1/access.proto";
service Shop {
  option (rolecall.v1.role) = {name: "shop.buyer" description: "Buy."};
  ` + serviceOptions + `
  rpc Buy(BuyRequest) returns (BuyResponse) {
    ` + methodOptions + `
  }
}
message BuyRequest { string request_id = 1; }
message BuyResponse {}
`
}

// compileShop compiles the policy of a server with shop.v1.Shop.
func compileShop(t testing.TB, source string, extra map[string]string, features ...string) (*Table, error) {
	t.Helper()
	sources := map[string]string{"shop/v1/shop.proto": source}
	maps.Copy(sources, extra)
	files := registry(t, compileProto(t, sources))
	return Compile(registered(files, "shop.v1.Shop"), files, nil, features)
}

// wantProblem fails the test unless err lists a problem of subject that says text.
func wantProblem(t testing.TB, err error, subject, text string) {
	t.Helper()
	var problems Problems
	if !errors.As(err, &problems) {
		t.Fatalf("error %v of type %T, want Problems", err, err)
	}
	for _, p := range problems {
		if p.Subject == subject && strings.Contains(p.Text, text) {
			return
		}
	}
	t.Errorf("problems:\n%v\nwant one of %s that says %q", err, subject, text)
}
