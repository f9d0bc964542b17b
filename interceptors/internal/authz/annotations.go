package authz

import (
	"errors"
	"fmt"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	rolecallv1 "example.com/rolecall/gen/rolecall/v1"
)

// The block of extension numbers of MethodOptions and ServiceOptions that belongs to rolecall.v1.
const (
	firstNumber protowire.Number = 104870
	lastNumber  protowire.Number = 104879
)

// extensions resolves the annotations of this version and nothing else. Options that were read where our Go types are
// not linked, or in a dynamic descriptor, carry them in unknown fields or under other types; read again with this
// resolver they are the same values everywhere.
type extensions struct{}

// FindExtensionByNumber implements protoregistry.ExtensionTypeResolver.
func (extensions) FindExtensionByNumber(message protoreflect.FullName, number protoreflect.FieldNumber) (protoreflect.ExtensionType, error) {
	for _, x := range []protoreflect.ExtensionType{
		rolecallv1.E_RequiresRole, rolecallv1.E_AnyWorkload, rolecallv1.E_RequiresUserRole,
		rolecallv1.E_RequiresUser, rolecallv1.E_RequiresProof, rolecallv1.E_ExactlyOnce, rolecallv1.E_Role,
	} {
		if d := x.TypeDescriptor(); d.Number() == number && d.ContainingMessage().FullName() == message {
			return x, nil
		}
	}
	return nil, protoregistry.NotFound
}

// FindExtensionByName implements protoregistry.ExtensionTypeResolver; the wire format knows no names.
func (extensions) FindExtensionByName(protoreflect.FullName) (protoreflect.ExtensionType, error) {
	return nil, protoregistry.NotFound
}

// reread writes options, of whatever Go type, into a message of descriptorpb with our extensions resolved. It refuses
// numbers of our block that it cannot resolve: a newer annotation, or a known one of another type, is never ignored.
func reread(options, into proto.Message) error {
	data, err := proto.MarshalOptions{AllowPartial: true}.Marshal(options)
	if err != nil {
		return fmt.Errorf("marshal options: %w", err)
	}
	if err := (proto.UnmarshalOptions{AllowPartial: true, Resolver: extensions{}}).Unmarshal(data, into); err != nil {
		return fmt.Errorf("read options: %w", err)
	}
	for unknown := into.ProtoReflect().GetUnknown(); len(unknown) > 0; {
		number, _, n := protowire.ConsumeField(unknown)
		if n < 0 {
			return fmt.Errorf("read options: %w", protowire.ParseError(n))
		}
		if number >= firstNumber && number <= lastNumber {
			return fmt.Errorf("option number %d belongs to rolecall.v1 but means nothing to this version: update rolecall, or remove the option", number)
		}
		unknown = unknown[n:]
	}
	return nil
}

// errUninterpreted is returned for descriptors whose maker did not resolve the options: what they say cannot be known.
var errUninterpreted = errors.New("the descriptor's options are not interpreted: build it with a compiler that resolves options")

// annotations are what the options of one method say.
type annotations struct {
	present     bool // at least one option of ours is there, valid or not
	roles       []string
	anyWorkload bool
	conditions  Conditions
}

// readMethod reads the annotations of a method, and reports everything that is wrong with them.
func readMethod(m protoreflect.MethodDescriptor) (annotations, []error) {
	options := &descriptorpb.MethodOptions{}
	if err := reread(m.Options(), options); err != nil {
		return annotations{present: true}, []error{err}
	}
	if len(options.GetUninterpretedOption()) > 0 {
		return annotations{present: true}, []error{errUninterpreted}
	}
	var a annotations
	var problems []error
	flag := func(x protoreflect.ExtensionType) bool {
		if !proto.HasExtension(options, x) {
			return false
		}
		a.present = true
		if !proto.GetExtension(options, x).(bool) {
			problems = append(problems, fmt.Errorf("%s = false says nothing: write true, or remove the option", x.TypeDescriptor().Name()))
			return false
		}
		return true
	}
	names := func(x protoreflect.ExtensionType) []string {
		list := slices.Clone(proto.GetExtension(options, x).([]string))
		a.present = a.present || len(list) > 0
		slices.Sort(list)
		for i, name := range list {
			if err := checkRoleName(name); err != nil {
				problems = append(problems, fmt.Errorf("%s: %w", x.TypeDescriptor().Name(), err))
			} else if i > 0 && list[i-1] == name {
				problems = append(problems, fmt.Errorf("%s %q is there twice: remove one", x.TypeDescriptor().Name(), name))
			}
		}
		return slices.Compact(list)
	}
	a.roles = names(rolecallv1.E_RequiresRole)
	a.anyWorkload = flag(rolecallv1.E_AnyWorkload)
	a.conditions = Conditions{
		UserRoles:   names(rolecallv1.E_RequiresUserRole),
		User:        flag(rolecallv1.E_RequiresUser),
		Proof:       flag(rolecallv1.E_RequiresProof),
		ExactlyOnce: flag(rolecallv1.E_ExactlyOnce),
	}
	if a.anyWorkload && len(a.roles) > 0 {
		problems = append(problems, errors.New("requires_role and any_workload exclude each other: remove one"))
	}
	return a, append(problems, checkShape(m, options, a.conditions)...)
}

// checkShape reports conditions that a method of this form cannot keep.
func checkShape(m protoreflect.MethodDescriptor, options *descriptorpb.MethodOptions, c Conditions) []error {
	var problems []error
	if c.Proof && m.IsStreamingClient() {
		problems = append(problems, errors.New("requires_proof on a stream of requests: a proof covers one message; remove the option or the stream"))
	}
	if !c.ExactlyOnce {
		return problems
	}
	if m.IsStreamingClient() || m.IsStreamingServer() {
		problems = append(problems, errors.New("exactly_once on a stream: only one request with one response can be kept; remove the option or the stream"))
	}
	id := m.Input().Fields().ByName("request_id")
	if id == nil || id.Kind() != protoreflect.StringKind || id.Cardinality() == protoreflect.Repeated {
		problems = append(problems, fmt.Errorf("exactly_once needs a field `string request_id` in %s", m.Input().FullName()))
	}
	if options.GetIdempotencyLevel() != descriptorpb.MethodOptions_IDEMPOTENT {
		problems = append(problems, errors.New("exactly_once needs `option idempotency_level = IDEMPOTENT;`"))
	}
	return problems
}
