package call

import (
	"cmp"
	"slices"
	"strings"

	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	adminv1 "example.com/rolecall/gen/rolecall/admin/v1"
	rolecallv1 "example.com/rolecall/gen/rolecall/v1"
	"example.com/rolecall/internal/catalog"
)

// Service is a service whose descriptor is at hand.
type Service struct {
	// Server is the name of the server in mesh.json; empty: every server has it, or nobody knows.
	Server     string
	Descriptor protoreflect.ServiceDescriptor
	// Types resolves the messages in google.protobuf.Any.
	Types Types
	// Reflected tells that a server described it, and this program knows nothing of it.
	Reflected bool
}

// Types resolves types of messages and extensions by their names.
type Types interface {
	protoregistry.MessageTypeResolver
	protoregistry.ExtensionTypeResolver
}

// Builtin returns the services of this binary, and those that every server of a mesh has.
func Builtin() []Service {
	var all []Service
	for _, s := range catalog.Services() {
		all = append(all, Service{Server: s.Name, Descriptor: s.Descriptor, Types: protoregistry.GlobalTypes})
	}
	for _, file := range []protoreflect.FileDescriptor{adminv1.File_rolecall_admin_v1_admin_proto, healthv1.File_grpc_health_v1_health_proto} {
		for i := range file.Services().Len() {
			all = append(all, Service{Descriptor: file.Services().Get(i), Types: protoregistry.GlobalTypes})
		}
	}
	return all
}

// Roles returns the roles that the services define for workloads, and the one of reflection, each once. Those that methods
// require of users alone are left out.
func Roles(services []Service) []string {
	all := []string{"rolecall.reflector"}
	var ofUsers, ofWorkloads []string
	for _, s := range services {
		options := &descriptorpb.ServiceOptions{}
		decode(s.Descriptor.Options(), options)
		for _, role := range proto.GetExtension(options, rolecallv1.E_Role).([]*rolecallv1.Role) {
			all = append(all, role.GetName())
		}
		for _, m := range s.Methods() {
			ofUsers, ofWorkloads = append(ofUsers, m.Requires.UserRoles...), append(ofWorkloads, m.Requires.Roles...)
		}
	}
	slices.Sort(all)
	return slices.DeleteFunc(slices.Compact(all), func(role string) bool {
		return slices.Contains(ofUsers, role) && !slices.Contains(ofWorkloads, role)
	})
}

// Method is a method that can be called.
type Method struct {
	Service
	Descriptor protoreflect.MethodDescriptor
	Requires   Requires
}

// Requires is what the annotations of a method say.
type Requires struct {
	Roles       []string
	AnyWorkload bool
	UserRoles   []string
	User        bool
	Proof       bool
	ExactlyOnce bool
}

// Methods returns the methods of a service in the order of its file.
func (s Service) Methods() []Method {
	var all []Method
	for i := range s.Descriptor.Methods().Len() {
		d := s.Descriptor.Methods().Get(i)
		m := Method{Service: s, Descriptor: d, Requires: requires(d)}
		if string(s.Descriptor.FullName()) == healthv1.Health_ServiceDesc.ServiceName {
			m.Requires.AnyWorkload = true // as guards have it
		}
		all = append(all, m)
	}
	return all
}

// Full returns the method as it goes over the wire: /package.Service/Method.
func (m Method) Full() string {
	return "/" + string(m.Service.Descriptor.FullName()) + "/" + string(m.Descriptor.Name())
}

// Short returns the shortest form that names the method.
func (m Method) Short() string {
	return cmp.Or(m.Server, string(m.Service.Descriptor.FullName())) + "/" + string(m.Descriptor.Name())
}

// decode reads the options of a descriptor. Annotations in one that came from elsewhere may lie there as bytes; whether they
// are in order is for the server to judge, and what cannot be read is left out.
func decode(from, to proto.Message) {
	data, err := proto.MarshalOptions{AllowPartial: true}.Marshal(from)
	if err == nil {
		err = proto.UnmarshalOptions{AllowPartial: true}.Unmarshal(data, to)
	}
	if err != nil {
		proto.Reset(to)
	}
}

// requires reads the annotations.
func requires(m protoreflect.MethodDescriptor) Requires {
	options := &descriptorpb.MethodOptions{}
	decode(m.Options(), options)
	flag := func(x protoreflect.ExtensionType) bool { return proto.GetExtension(options, x).(bool) }
	return Requires{
		Roles: proto.GetExtension(options, rolecallv1.E_RequiresRole).([]string), AnyWorkload: flag(rolecallv1.E_AnyWorkload),
		UserRoles: proto.GetExtension(options, rolecallv1.E_RequiresUserRole).([]string), User: flag(rolecallv1.E_RequiresUser),
		Proof: flag(rolecallv1.E_RequiresProof), ExactlyOnce: flag(rolecallv1.E_ExactlyOnce),
	}
}

// String says for people what a caller needs.
func (r Requires) String() string {
	words := slices.Clone(r.Roles)
	if r.AnyWorkload {
		words = append(words, "any workload")
	}
	for _, role := range r.UserRoles {
		words = append(words, "user:"+role)
	}
	if r.User && len(r.UserRoles) == 0 {
		words = append(words, "a user")
	}
	if r.Proof {
		words = append(words, "proof")
	}
	if r.ExactlyOnce {
		words = append(words, "exactly once")
	}
	return strings.Join(words, " + ")
}
