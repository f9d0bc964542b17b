package authz

import (
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
)

// Description is what the options of a method say to those who call it.
type Description struct {
	Full         string // "/ledger.v1.LedgerService/Transfer"
	Conditions   Conditions
	Idempotent   bool // may be sent again when nobody knows what came of it
	ClientStream bool
	ServerStream bool
}

// Describe returns the description of a method by its full name on the wire, and false if protoregistry.GlobalFiles has no
// descriptor of it.
func Describe(full string) (Description, bool) {
	service, method, ok := strings.Cut(strings.TrimPrefix(full, "/"), "/")
	if !ok {
		return Description{}, false
	}
	s, err := findService(protoregistry.GlobalFiles, service)
	if err != nil || s == nil {
		return Description{}, false
	}
	m := s.Methods().ByName(protoreflect.Name(method))
	if m == nil {
		return Description{}, false
	}
	return describe(m), true
}

// DescribeLinked returns the descriptions of all methods that protoregistry.GlobalFiles has a descriptor of.
func DescribeLinked() []Description {
	var all []Description
	for _, s := range linkedServices(protoregistry.GlobalFiles, nil) {
		for i := range s.Methods().Len() {
			all = append(all, describe(s.Methods().Get(i)))
		}
	}
	return all
}

// describe reads the options of a method. Options with a mistake in them, which keep a server from starting, say nothing of
// what they are wrong about; a call that misses a condition is refused by the server.
func describe(m protoreflect.MethodDescriptor) Description {
	a, _ := readMethod(m)
	d := Description{
		Full:       "/" + string(m.Parent().FullName()) + "/" + string(m.Name()),
		Conditions: a.conditions, ClientStream: m.IsStreamingClient(), ServerStream: m.IsStreamingServer(),
	}
	d.Idempotent = a.conditions.ExactlyOnce
	if options, ok := m.Options().(*descriptorpb.MethodOptions); ok {
		d.Idempotent = d.Idempotent || options.GetIdempotencyLevel() != descriptorpb.MethodOptions_IDEMPOTENCY_UNKNOWN
	}
	return d
}
