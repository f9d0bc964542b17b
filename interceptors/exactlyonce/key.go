package exactlyonce

import (
	"crypto/sha256"
	"encoding/binary"

	"google.golang.org/protobuf/proto"

	"example.com/rolecall/interceptors/internal/requestid"
)

// Key names a request. Two requests are the same one if all of it is equal.
type Key struct {
	Method    string // "/ledger.v1.LedgerService/Transfer"
	Peer      string // SPIFFE ID of the workload that sent it
	Signer    string // SPIFFE ID of the workload that signed it; empty for a method without proof
	User      string // on whose behalf, as interceptors.User.Key has it; empty for none
	RequestID string // a UUID, in lower case; Find and Cancel take it in either case
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

// RequestID returns a request_id as it is compared and stored, in lower case, and whether it is good: a UUID in its text form of 36
// characters (RFC 9562 §4), of any version, but not the one of zeros only, which is what a client has that forgot to make one.
func RequestID(text string) (string, bool) { return requestid.Parse(text) }

// requestIDOf reads the request_id of a message.
func requestIDOf(m proto.Message) (string, bool) {
	if m == nil {
		return "", false
	}
	field := requestid.Field(m)
	if field == nil {
		return "", false
	}
	return requestid.Parse(m.ProtoReflect().Get(field).String())
}
