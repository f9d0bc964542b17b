package call

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
)

// Bounds of what a server may describe itself with.
const (
	maxReflected      = 1000 // files
	maxReflectedBytes = 32 << 20
)

// Reflect asks a server for the services that it has, but for reflection itself. The role rolecall.reflector is needed; the
// error is the status of the refusal, or says what is wrong with the answer.
func Reflect(ctx context.Context, conn grpc.ClientConnInterface) ([]Service, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := reflectionv1.NewServerReflectionClient(conn).ServerReflectionInfo(ctx)
	if err != nil {
		return nil, err
	}
	r := &reflection{stream: stream, files: map[string]*descriptorpb.FileDescriptorProto{}}
	names, err := r.services()
	if err == nil {
		names = slices.DeleteFunc(names, func(full string) bool {
			return strings.HasPrefix(full, "grpc.reflection.")
		})
		for _, full := range names {
			if err = r.symbol(full); err != nil {
				break
			}
		}
	}
	if err != nil {
		return nil, err
	}
	return r.resolve(names)
}

// reflection is one conversation with a server.
type reflection struct {
	stream reflectionv1.ServerReflection_ServerReflectionInfoClient
	files  map[string]*descriptorpb.FileDescriptorProto
	size   int // of all that came, in bytes
}

func (r *reflection) ask(request *reflectionv1.ServerReflectionRequest) (*reflectionv1.ServerReflectionResponse, error) {
	// What Send fails with is told by Recv.
	_ = r.stream.Send(request)
	answer, err := r.stream.Recv()
	if err != nil {
		return nil, err
	}
	if refused := answer.GetErrorResponse(); refused != nil {
		return nil, status.Error(codes.Code(refused.GetErrorCode()), refused.GetErrorMessage())
	}
	return answer, nil
}

func (r *reflection) services() ([]string, error) {
	answer, err := r.ask(&reflectionv1.ServerReflectionRequest{MessageRequest: &reflectionv1.ServerReflectionRequest_ListServices{ListServices: "*"}})
	if err != nil {
		return nil, err
	}
	var names []string
	for _, s := range answer.GetListServicesResponse().GetService() {
		names = append(names, s.GetName())
	}
	return names, nil
}

// symbol fetches the file that defines a service, and all that it imports.
func (r *reflection) symbol(name string) error {
	answer, err := r.ask(&reflectionv1.ServerReflectionRequest{MessageRequest: &reflectionv1.ServerReflectionRequest_FileContainingSymbol{FileContainingSymbol: name}})
	if err != nil {
		return err
	}
	if err := r.keep(answer); err != nil {
		return err
	}
	for needed := r.missing(); needed != ""; needed = r.missing() {
		answer, err := r.ask(&reflectionv1.ServerReflectionRequest{MessageRequest: &reflectionv1.ServerReflectionRequest_FileByFilename{FileByFilename: needed}})
		if err != nil {
			return err
		}
		if err := r.keep(answer); err != nil {
			return err
		}
		if r.files[needed] == nil {
			return fmt.Errorf("it does not have the file %s that another one imports", needed)
		}
	}
	return nil
}

// keep keeps the files of an answer.
func (r *reflection) keep(answer *reflectionv1.ServerReflectionResponse) error {
	for _, data := range answer.GetFileDescriptorResponse().GetFileDescriptorProto() {
		file := &descriptorpb.FileDescriptorProto{}
		if err := proto.Unmarshal(data, file); err != nil {
			return fmt.Errorf("a file that it describes itself with cannot be read: %w", err)
		}
		r.files[file.GetName()] = file
		r.size += len(data)
	}
	if len(r.files) > maxReflected || r.size > maxReflectedBytes {
		return fmt.Errorf("it describes itself with more than %d files or %d bytes", maxReflected, maxReflectedBytes)
	}
	return nil
}

// missing returns a file that another one imports and that is not there yet, "" if there is none.
func (r *reflection) missing() string {
	for _, file := range r.files {
		for _, needed := range file.GetDependency() {
			if r.files[needed] == nil {
				return needed
			}
		}
	}
	return ""
}

func (r *reflection) resolve(names []string) ([]Service, error) {
	set := &descriptorpb.FileDescriptorSet{}
	for _, file := range r.files {
		set.File = append(set.File, file)
	}
	files, err := protodesc.NewFiles(set)
	if err != nil {
		return nil, fmt.Errorf("what the server says of itself does not fit together: %w", err)
	}
	var services []Service
	for _, name := range names {
		d, err := files.FindDescriptorByName(protoreflect.FullName(name))
		if err != nil {
			return nil, fmt.Errorf("the server says that it has %s, and does not describe it: %w", name, err)
		}
		service, ok := d.(protoreflect.ServiceDescriptor)
		if !ok {
			return nil, fmt.Errorf("the server says that %s is a service, and describes something else", name)
		}
		services = append(services, Service{Descriptor: service, Types: dynamicpb.NewTypes(files), Reflected: true})
	}
	return services, nil
}
