// Package secret knows the fields of messages that are marked debug_redact: nobody is to read them who need not.
package secret

import (
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
)

// Find returns the name of a field that is filled in and marked, also in the messages within m; "" if there is none.
func Find(m protoreflect.Message) (name string) {
	visit(m, func(_ protoreflect.Message, f protoreflect.FieldDescriptor) bool {
		name = string(f.Name())
		return false
	})
	return name
}

// Clear empties all such fields.
func Clear(m protoreflect.Message) {
	visit(m, func(in protoreflect.Message, f protoreflect.FieldDescriptor) bool {
		in.Clear(f)
		return true
	})
}

// visit goes to each of them until f returns false, and returns whether it never did.
func visit(m protoreflect.Message, f func(in protoreflect.Message, field protoreflect.FieldDescriptor) bool) bool {
	goOn := true
	m.Range(func(field protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		options, _ := field.Options().(*descriptorpb.FieldOptions)
		switch {
		case options.GetDebugRedact():
			goOn = f(m, field)
		case field.IsMap():
			if field.MapValue().Message() != nil {
				v.Map().Range(func(_ protoreflect.MapKey, v protoreflect.Value) bool {
					goOn = visit(v.Message(), f)
					return goOn
				})
			}
		case field.IsList() && field.Message() != nil:
			for i := 0; i < v.List().Len() && goOn; i++ {
				goOn = visit(v.List().Get(i).Message(), f)
			}
		case field.Message() != nil:
			goOn = visit(v.Message(), f)
		}
		return goOn
	})
	return goOn
}
