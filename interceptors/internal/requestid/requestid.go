// Package requestid is about the request_id of a request (AIP-155): where it stands in a message, and what is one.
package requestid

import (
	"crypto/rand"
	"crypto/sha1" //nolint:gosec // RFC 9562 §5.5 makes UUIDs of version 5 with it
	"fmt"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Field returns the field request_id of a message, of which only the descriptor is known; nil if it has none that holds one
// text.
func Field(m proto.Message) protoreflect.FieldDescriptor {
	field := m.ProtoReflect().Descriptor().Fields().ByName("request_id")
	if field == nil || field.Kind() != protoreflect.StringKind || field.Cardinality() == protoreflect.Repeated {
		return nil
	}
	return field
}

// Parse returns a request_id as it is compared and stored, in lower case, and whether it is good: a UUID in its text form of 36
// characters (RFC 9562 §4), of any version, but not the one of zeros only, which is what a client has that forgot to make one.
func Parse(text string) (string, bool) {
	if len(text) != 36 {
		return "", false
	}
	zeros := true
	for i := range len(text) {
		switch c := text[i]; {
		case i == 8 || i == 13 || i == 18 || i == 23:
			if c != '-' {
				return "", false
			}
		case c == '0':
		case '1' <= c && c <= '9', 'a' <= c && c <= 'f', 'A' <= c && c <= 'F':
			zeros = false
		default:
			return "", false
		}
	}
	return strings.ToLower(text), !zeros
}

// New returns a random UUID (RFC 9562 §5.4).
func New() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	return format(b, 4)
}

// Child returns the UUIDv5 (RFC 9562 §5.5) of a step in the name space of a key.
func Child(key [16]byte, step string) string {
	sum := sha1.Sum(append(key[:], step...)) //nolint:gosec // see the import
	return format([16]byte(sum[:16]), 5)
}

// format writes 16 bytes as the UUID of a version, of the variant of RFC 9562.
func format(b [16]byte, version byte) string {
	b[6] = b[6]&0x0f | version<<4
	b[8] = b[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
