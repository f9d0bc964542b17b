package authz

import (
	"google.golang.org/grpc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// CompileDescriptors makes the table of a server that would register the given services, without a server. Every
// condition counts as enforced. Roles are looked for in the services' files and in the files that these import.
func CompileDescriptors(services []protoreflect.ServiceDescriptor) (*Table, error) {
	info := make(map[string]grpc.ServiceInfo, len(services))
	known := descriptors{}
	for _, s := range services {
		known[s.FullName()] = s
		methods := make([]grpc.MethodInfo, s.Methods().Len())
		for i := range methods {
			m := s.Methods().Get(i)
			methods[i] = grpc.MethodInfo{Name: string(m.Name()), IsClientStream: m.IsStreamingClient(), IsServerStream: m.IsStreamingServer()}
		}
		info[string(s.FullName())] = grpc.ServiceInfo{Methods: methods}
	}
	return Compile(info, known, nil, []string{"requires_user_role", "requires_user", "requires_proof", "exactly_once"})
}

// descriptors is a Resolver of services that are at hand.
type descriptors map[protoreflect.FullName]protoreflect.ServiceDescriptor

// FindDescriptorByName implements Resolver.
func (d descriptors) FindDescriptorByName(name protoreflect.FullName) (protoreflect.Descriptor, error) {
	if s, ok := d[name]; ok {
		return s, nil
	}
	return nil, protoregistry.NotFound
}

// FindFileByPath implements Resolver; nothing here asks for a file.
func (d descriptors) FindFileByPath(string) (protoreflect.FileDescriptor, error) {
	return nil, protoregistry.NotFound
}
