package interceptors_test

import (
	"testing"

	"golang.org/x/net/http2"
	"google.golang.org/grpc/codes"

	ledgerv1 "example.com/rolecall/gen/ledger/v1"
)

// TestAClientThatNeverReadsLosesItsConnection refuses a stream whose handler is stuck in SendMsg. The reason is one that
// leaves the connection open; but its status would wait behind the data for ever.
func TestAClientThatNeverReadsLosesItsConnection(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	freed, blocked := m.fillStreams(t)
	w := m.wire(t, m.cert(m.ca.Issue(reader)), http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
	w.say(w.ask(watchEntries))
	blocked()
	must(t, m.guard.Apply(noRoles))
	w.closed()
	refused(t, <-freed, codes.PermissionDenied, "ROLE_REQUIRED")
}

// TestWhatAClientSeesThatDoesNotRead has a client begin to read after the refusal, while the guard still waits for it:
// it gets what was sent before, and behind that why there is no more.
func TestWhatAClientSeesThatDoesNotRead(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	freed, blocked := m.fillStreams(t)
	conn := m.dial(reader)
	stream, err := ledgerv1.NewLedgerServiceClient(conn).WatchEntries(timeout(t), &ledgerv1.WatchEntriesRequest{})
	must(t, err)
	blocked()
	must(t, m.guard.Apply(noRoles))
	m.audit.find(t, map[string]any{"event": "stream", "reason": "ROLE_REQUIRED"})
	got := 0
	for err == nil {
		if _, err = stream.Recv(); err == nil {
			got++
		}
	}
	refused(t, err, codes.PermissionDenied, "ROLE_REQUIRED")
	if got == 0 {
		t.Error("what was sent before the refusal is lost")
	}
	refused(t, <-freed, codes.PermissionDenied, "ROLE_REQUIRED")
	refused(t, balance(t, conn), codes.PermissionDenied, "ROLE_REQUIRED")
}
