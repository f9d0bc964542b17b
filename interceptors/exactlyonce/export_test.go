package exactlyonce

import (
	"context"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"example.com/rolecall/interceptors/internal/feature"
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

// Do is what the guard calls.
func (r *Requests) Do(ctx context.Context, call *feature.OnceCall, run func(context.Context) (proto.Message, error)) ([]byte, feature.Verdict, string, error) {
	return enforcer{r}.Do(ctx, call, run)
}

// Serve is what the guard calls when the server starts.
func (r *Requests) Serve(methods []feature.Method) error { return enforcer{r}.Serve(methods) }

// Close is what the guard calls at the end.
func (r *Requests) Close() error { return enforcer{r}.Close() }

// LookEvery sets how often it looks for sagas that nobody runs. It is called before the server starts.
func (r *Requests) LookEvery(d time.Duration) { r.every = d }

// Prune deletes once what has expired.
func (r *Requests) Prune(ctx context.Context) { r.pruneAll(ctx) }
