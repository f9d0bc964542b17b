package exactlyonce

import (
	"crypto/sha1" //nolint:gosec // RFC 9562 §5.5 makes UUIDs of version 5 with it
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Key names a request. Two requests are the same one if all of it is equal.
type Key struct {
	Method    string // "/ledger.v1.LedgerService/Transfer"
	Peer      string // SPIFFE ID of the workload that sent it
	Signer    string // SPIFFE ID of the workload that signed it; empty for a method without proof
	User      string // on whose behalf, as interceptors.User.Key has it; empty for none
	RequestID string // a UUID, in lower case; Find and Cancel take either
}

// sum is the key of the row: each part goes in with its length, so that no two keys have the same text.
func (k Key) sum() [sha256.Size]byte {
	var text []byte
	for _, part := range []string{k.Method, k.Peer, k.Signer, k.User, k.RequestID} {
		text = binary.BigEndian.AppendUint32(text, uint32(len(part)))
		text = append(text, part...)
	}
	return sha256.Sum256(text)
}

// child is the UUIDv5 (RFC 9562 §5.5) of a step in the name space that the key makes.
func child(sum [sha256.Size]byte, step string) string {
	h := sha1.New() //nolint:gosec // see the import
	h.Write(sum[:16])
	h.Write([]byte(step))
	id := h.Sum(nil)[:16]
	id[6] = id[6]&0x0f | 0x50
	id[8] = id[8]&0x3f | 0x80
	text := hex.EncodeToString(id)
	return text[:8] + "-" + text[8:12] + "-" + text[12:16] + "-" + text[16:20] + "-" + text[20:]
}

// RequestID returns a request_id as it is compared and stored, in lower case, and whether it is good: a UUID in its text form of 36
// characters (RFC 9562 §4), of any version, but not the one of zeros only, which is what a client has that forgot to make one.
func RequestID(text string) (string, bool) {
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

// requestIDField is the field of a request that AIP-155 gives it.
const requestIDField = "request_id"

// requestIDOf reads the request_id of a message, of which only the descriptor is known.
func requestIDOf(m proto.Message) (string, bool) {
	if m == nil {
		return "", false
	}
	field := m.ProtoReflect().Descriptor().Fields().ByName(requestIDField)
	if field == nil || field.Kind() != protoreflect.StringKind || field.Cardinality() == protoreflect.Repeated {
		return "", false
	}
	return RequestID(m.ProtoReflect().Get(field).String())
}
