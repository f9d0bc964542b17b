package call

import (
	"github.com/google/uuid"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// requestID is the field of methods with exactly_once (AIP-155).
const requestID = "request_id"

// FillRequestID gives a request of a method with exactly_once a request_id, if it has none. It returns the one that it has,
// empty for other methods, and whether it was made up.
func FillRequestID(m Method, message *Message) (id string, made bool) {
	f := m.Descriptor.Input().Fields().ByName(requestID)
	if !m.Requires.ExactlyOnce || f == nil || f.Kind() != protoreflect.StringKind || f.IsList() {
		return "", false
	}
	if made = message.Get(f).String() == ""; made {
		message.Set(f, protoreflect.ValueOfString(uuid.NewString()))
	}
	return message.Get(f).String(), made
}
