package audit_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"example.com/rolecall/interceptors/internal/audit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestARecordIsOneLineOfJSONWithWhatIsKnown(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	log := audit.New(slog.NewJSONHandler(&out, nil))
	log.Write(audit.Record{
		Event: "call", Method: "/a.B/C", Workload: "spiffe://mesh.local/service/a", Signer: "spiffe://mesh.local/service/s", Peer: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 7},
		Serial: "1f", Roles: []string{"a.writer"}, Missing: []string{"a.writer"}, Narrowed: true, Verdict: audit.Denied, Reason: "ROLE_REQUIRED",
		Policy: "abc", Request: "r1", Trace: "t1",
	})
	log.Close()
	var got map[string]any
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatalf("%v in %s", err, out.String())
	}
	if _, err := time.Parse(time.RFC3339Nano, got["time"].(string)); err != nil {
		t.Error(err)
	}
	delete(got, "time")
	want := map[string]any{
		"level": "WARN", "msg": "audit", "event": "call", "method": "/a.B/C", "workload": "spiffe://mesh.local/service/a", "signer": "spiffe://mesh.local/service/s", "peer": "127.0.0.1:7",
		"serial": "1f", "roles": []any{"a.writer"}, "missing_roles": []any{"a.writer"}, "narrowed": true, "verdict": "denied", "reason": "ROLE_REQUIRED",
		"policy": "abc", "request_id": "r1", "trace_id": "t1",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// stuck is a handler that does not return before it is released.
type stuck struct {
	slog.Handler
	release chan struct{}
}

func (s stuck) Enabled(context.Context, slog.Level) bool { return true }

func (s stuck) Handle(context.Context, slog.Record) error {
	<-s.release
	return nil
}

func TestAHandlerThatHangsHoldsUpNobodyAndDropsAreCounted(t *testing.T) {
	t.Parallel()
	handler := stuck{release: make(chan struct{})}
	log := audit.New(handler)
	const written = 10_000
	for range written {
		log.Write(audit.Record{Event: "call"})
	}
	// 4096 wait in the queue, and one may be with the handler.
	if dropped := log.Dropped(); dropped < written-4097 || dropped > written-4096 {
		t.Errorf("%d of %d records were dropped", dropped, written)
	}
	close(handler.release)
	log.Close()
}

type failing struct{ stuck }

func (failing) Handle(context.Context, slog.Record) error { return errors.New("disk full") }

func TestARecordThatCannotBeWrittenIsCounted(t *testing.T) {
	t.Parallel()
	log := audit.New(failing{})
	log.Write(audit.Record{Event: "call"})
	log.Close()
	if n := log.Dropped(); n != 1 {
		t.Errorf("%d records counted as dropped, want 1", n)
	}
}
