package audit_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"example.com/rolecall/interceptors/internal/audit"
	"example.com/rolecall/internal/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// patience is for a log that Close did not wait for: it writes what is queued all the same.
const patience = 30 * time.Second

// lines takes what is written, one line at a time.
type lines chan string

func (l lines) Write(p []byte) (int, error) {
	l <- string(p)
	return len(p), nil
}

func TestARecordIsOneLineOfJSONWithWhatIsKnown(t *testing.T) {
	t.Parallel()
	out := make(lines, 1)
	log := audit.New(slog.NewJSONHandler(out, nil))
	log.Write(audit.Record{
		Event: "call", Method: "/a.B/C", Workload: "spiffe://mesh.local/service/a", Signer: "spiffe://mesh.local/service/s", Peer: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 7},
		Serial: "1f", Roles: []string{"a.writer"}, Missing: []string{"a.writer"}, Narrowed: true, Verdict: audit.Denied, Reason: "ROLE_REQUIRED",
		Policy: "abc", Request: "r1", Trace: "t1",
	})
	log.Close()
	var line string
	select {
	case line = <-out:
	case <-time.After(patience):
		t.Fatal("nothing was written")
	}
	var got map[string]any
	if err := json.Unmarshal([]byte(line), &got); err != nil {
		t.Fatalf("%v in %s", err, line)
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
	for start := time.Now(); log.Dropped() != 1; time.Sleep(time.Millisecond) {
		if time.Since(start) > patience {
			t.Fatalf("%d records counted as dropped, want 1", log.Dropped())
		}
	}
}
