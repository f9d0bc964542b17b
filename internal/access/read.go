package access

import (
	"fmt"
	"io"
	"os"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"

	"example.com/rolecall/interceptors"
	"example.com/rolecall/internal/catalog"
)

// Bounds of what is read: bindings as the guard bounds them, and descriptor sets, which hold every file that is imported.
const (
	maxBindings    = 4 << 20
	maxDescriptors = 64 << 20
)

// Read reads bindings for the services of this binary and for those of the given files, each a FileDescriptorSet as `buf
// build -o FILE` and `protoc --include_imports -o FILE` write it. An error in the bindings names line and column.
func Read(roles string, descriptorSets []string) (*interceptors.Policy, error) {
	data, err := read(roles, maxBindings)
	if err != nil {
		return nil, err
	}
	services := catalog.Descriptors()
	for _, path := range descriptorSets {
		more, err := readServices(path)
		if err != nil {
			return nil, err
		}
		services = append(services, more...)
	}
	policy, err := interceptors.ReadPolicy(data, distinct(services)...)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", roles, err)
	}
	return policy, nil
}

func read(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%s has more than %d bytes, which is the most that is read", path, limit)
	}
	return data, nil
}

func readServices(path string) ([]protoreflect.ServiceDescriptor, error) {
	data, err := read(path, maxDescriptors)
	if err != nil {
		return nil, err
	}
	var set descriptorpb.FileDescriptorSet
	if err := proto.Unmarshal(data, &set); err != nil {
		return nil, fmt.Errorf("%s is not a FileDescriptorSet, make one with 'buf build -o FILE.binpb': %w", path, err)
	}
	files, err := protodesc.NewFiles(&set)
	if err != nil {
		return nil, fmt.Errorf("%s is not whole, make it with 'buf build -o FILE.binpb' or 'protoc --include_imports': %w", path, err)
	}
	var services []protoreflect.ServiceDescriptor
	files.RangeFiles(func(file protoreflect.FileDescriptor) bool {
		for i := range file.Services().Len() {
			services = append(services, file.Services().Get(i))
		}
		return true
	})
	if len(services) == 0 {
		return nil, fmt.Errorf("%s describes no service", path)
	}
	return services, nil
}

// distinct keeps the first service of each name: a descriptor set may hold those of this binary again.
func distinct(services []protoreflect.ServiceDescriptor) []protoreflect.ServiceDescriptor {
	seen := map[protoreflect.FullName]bool{}
	var kept []protoreflect.ServiceDescriptor
	for _, s := range services {
		if !seen[s.FullName()] {
			seen[s.FullName()] = true
			kept = append(kept, s)
		}
	}
	return kept
}
