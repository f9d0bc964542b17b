package exactlyonce

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"

	"example.com/rolecall/interceptors/internal/requestid"
)

// payloadOf is what two requests with the same request_id are compared by: the SHA-256 of the message without its request_id,
// which is in the key, and without fields marked debug_redact, because a fast hash of a password has no place in a database.
//
// Fields that the service does not know count, in the order of their numbers like any other: a server that has learned a field
// meanwhile makes the same of the same request. It does not if the field is inside of a message of the request and its number
// is below another's there, or if it is marked debug_redact.
func payloadOf(m proto.Message) ([sha256.Size]byte, error) {
	m = proto.Clone(m)
	redact(m.ProtoReflect())
	if field := requestid.Field(m); field != nil {
		m.ProtoReflect().Clear(field)
	}
	text, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		return [sha256.Size]byte{}, fmt.Errorf("marshal the request: %w", err)
	}
	return sha256.Sum256(inOrder(text)), nil
}

// inOrder sorts the fields of an encoded message by their numbers. Marshal puts those that are not known last.
func inOrder(text []byte) []byte {
	type field struct {
		number protowire.Number
		text   []byte
	}
	var fields []field
	for rest := text; len(rest) > 0; {
		number, _, n := protowire.ConsumeField(rest)
		if n < 0 {
			return text // which Marshal does not make
		}
		fields = append(fields, field{number, rest[:n]})
		rest = rest[n:]
	}
	slices.SortStableFunc(fields, func(a, b field) int { return cmp.Compare(a.number, b.number) })
	sorted := make([]byte, 0, len(text))
	for _, f := range fields {
		sorted = append(sorted, f.text...)
	}
	return sorted
}

// redact clears the fields marked debug_redact, at every depth.
func redact(m protoreflect.Message) {
	m.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		switch {
		case redacted(field):
			m.Clear(field)
		case field.IsMap() && field.MapValue().Message() != nil:
			value.Map().Range(func(_ protoreflect.MapKey, v protoreflect.Value) bool {
				redact(v.Message())
				return true
			})
		case field.IsList() && field.Message() != nil:
			for i := range value.List().Len() {
				redact(value.List().Get(i).Message())
			}
		case !field.IsMap() && field.Message() != nil:
			redact(value.Message())
		}
		return true
	})
}

func redacted(field protoreflect.FieldDescriptor) bool {
	options, ok := field.Options().(*descriptorpb.FieldOptions)
	return ok && options.GetDebugRedact()
}

// secretIn returns the first field marked debug_redact that a message of the type may hold, at any depth; "" for none.
func secretIn(m protoreflect.MessageDescriptor, seen map[protoreflect.FullName]bool) protoreflect.FullName {
	if seen[m.FullName()] {
		return ""
	}
	seen[m.FullName()] = true
	for i := range m.Fields().Len() {
		field := m.Fields().Get(i)
		if redacted(field) {
			return field.FullName()
		}
		if field.Message() != nil {
			if found := secretIn(field.Message(), seen); found != "" {
				return found
			}
		}
	}
	return ""
}
