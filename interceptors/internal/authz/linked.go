package authz

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// Resolver finds descriptors; *protoregistry.Files is one. Where it can also range over all its files, as that one can,
// roles are found whose services are linked but not registered.
type Resolver = protodesc.Resolver

// findService returns the descriptor of a service, or nil if there is none.
func findService(files Resolver, name string) (protoreflect.ServiceDescriptor, error) {
	d, err := files.FindDescriptorByName(protoreflect.FullName(name))
	if errors.Is(err, protoregistry.NotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("find descriptor: %w", err)
	}
	s, ok := d.(protoreflect.ServiceDescriptor)
	if !ok {
		return nil, fmt.Errorf("the descriptor of that name is a %T, not a service", d)
	}
	return s, nil
}

// linkedServices returns the registered services, every service in the files that these import, and every service that
// the resolver can tell of, each once, in the order of their names.
func linkedServices(files Resolver, registered []protoreflect.ServiceDescriptor) []protoreflect.ServiceDescriptor {
	services := map[protoreflect.FullName]protoreflect.ServiceDescriptor{}
	for _, s := range registered {
		services[s.FullName()] = s
	}
	seen := map[string]bool{}
	var visit func(protoreflect.FileDescriptor)
	visit = func(f protoreflect.FileDescriptor) {
		if f.IsPlaceholder() || seen[f.Path()] {
			return
		}
		seen[f.Path()] = true
		for i := range f.Services().Len() {
			if s := f.Services().Get(i); services[s.FullName()] == nil {
				services[s.FullName()] = s
			}
		}
		for i := range f.Imports().Len() {
			visit(f.Imports().Get(i).FileDescriptor)
		}
	}
	for _, s := range registered {
		visit(s.ParentFile())
	}
	if all, ok := files.(interface {
		RangeFiles(func(protoreflect.FileDescriptor) bool)
	}); ok {
		// Looked at afterwards: a descriptor that is read for the first time may ask the registry, which is locked while it
		// is ranged over, and a file that is registered meanwhile would block that for ever.
		var ranged []protoreflect.FileDescriptor
		all.RangeFiles(func(f protoreflect.FileDescriptor) bool { ranged = append(ranged, f); return true })
		for _, f := range ranged {
			visit(f)
		}
	}
	list := make([]protoreflect.ServiceDescriptor, 0, len(services))
	for _, name := range slices.Sorted(maps.Keys(services)) {
		list = append(list, services[name])
	}
	return list
}
