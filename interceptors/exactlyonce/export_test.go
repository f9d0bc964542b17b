package exactlyonce

import (
	"context"
	"testing"

	"google.golang.org/protobuf/proto"
)

// Payload is what requests are compared by.
func Payload(t *testing.T, m proto.Message) [32]byte {
	t.Helper()
	sum, err := payloadOf(m)
	if err != nil {
		t.Fatalf("payload: %v", err)
	}
	return sum
}

// Prune deletes once what has expired.
func (r *Requests) Prune(ctx context.Context) { r.pruneAll(ctx) }
