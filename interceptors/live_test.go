package interceptors_test

import (
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	ledgerv1 "example.com/rolecall/gen/ledger/v1"
	"example.com/rolecall/interceptors"
)

const noRoles = "trustDomain: mesh.local\nbindings: []\n"

const adminRoles = `
trustDomain: mesh.local
bindings:
  - role: ledger.admin
    members: [spiffe://mesh.local/service/admin]
`

// rolesFile is a roles.yaml that a second server of the mesh watches; that server takes the place of the first.
type rolesFile struct {
	path  string
	guard *interceptors.Guard
}

func (m *mesh) useFile(t *testing.T) *rolesFile {
	t.Helper()
	f := &rolesFile{path: filepath.Join(t.TempDir(), "roles.yaml")}
	f.write(t, roles)
	f.guard = m.newGuard(m.source, interceptors.BindingsFile(f.path), interceptors.Audit(jsonTo(m.audit)), interceptors.Logger(textTo(m.log)))
	srv := f.guard.NewServer()
	ledgerv1.RegisterLedgerServiceServer(srv, m.ledger)
	m.addr = m.serve(srv)
	return f
}

// write replaces the file as editors and tools do, by renaming a new one over it.
func (f *rolesFile) write(t *testing.T, content string) {
	t.Helper()
	must(t, os.WriteFile(f.path+".new", []byte(content), 0o600))
	must(t, os.Rename(f.path+".new", f.path))
}

// callUntilRefused makes calls that are at first allowed and returns the first error.
func callUntilRefused(t *testing.T, m *mesh, conn *grpc.ClientConn) (err error) {
	t.Helper()
	eventually(t, "refusal", func() bool {
		before := m.ledger.reached.Load()
		err = balance(t, conn)
		if err != nil && m.ledger.reached.Load() != before {
			t.Error("the refused call reached the handler")
		}
		return err != nil
	})
	m.ledger.reached.Store(0)
	return err
}

// idleStream opens a stream on which nothing happens any more, and returns the error that it ends with after change.
func idleStream(t *testing.T, m *mesh, conn *grpc.ClientConn, change func()) error {
	t.Helper()
	stream := watch(t, conn)
	m.ledger.reached.Store(0)
	start := time.Now()
	change()
	_, err := stream.Recv()
	t.Logf("the stream ended after %s", time.Since(start).Round(time.Millisecond))
	return err
}

// blockedSender has the handler of a stream blocked in SendMsg by a client that never reads, and returns the error with
// which the handler is freed after change. What the client would see is in TestWhatAClientSeesThatDoesNotRead.
func blockedSender(t *testing.T, m *mesh, conn *grpc.ClientConn, change func()) error {
	t.Helper()
	freed, blocked := m.fillStreams(t)
	_, err := ledgerv1.NewLedgerServiceClient(conn).WatchEntries(t.Context(), &ledgerv1.WatchEntriesRequest{})
	must(t, err)
	blocked()
	m.ledger.reached.Store(0)
	change()
	select {
	case err := <-freed:
		return err
	case <-time.After(wireTimeout):
		return fmt.Errorf("the handler was still blocked after %s", wireTimeout)
	}
}

// fillStreams has WatchEntries send without end. It returns what ends its SendMsg, and a function that waits until a
// message does not get out any more.
func (m *mesh) fillStreams(t *testing.T) (freed <-chan error, blocked func()) {
	t.Helper()
	var sent atomic.Int64
	ended := make(chan error, 1)
	m.ledger.watch = func(stream grpc.ServerStreamingServer[ledgerv1.WatchEntriesResponse]) error {
		message := &ledgerv1.WatchEntriesResponse{Entry: &ledgerv1.Entry{EntryId: string(make([]byte, 1024))}}
		for {
			if err := stream.Send(message); err != nil {
				ended <- err
				return err
			}
			sent.Add(1)
		}
	}
	return ended, func() {
		t.Helper()
		before, looks := int64(0), 0
		eventually(t, "blocked sender", func() bool {
			now := sent.Load()
			if looks++; now != before {
				before, looks = now, 0
			}
			return now > 30 && looks == 20 // gRPC takes 64 KiB before it blocks
		})
	}
}

// blockedReceiver has the handler of a stream blocked in RecvMsg.
func blockedReceiver(t *testing.T, m *mesh, conn *grpc.ClientConn, change func()) error {
	t.Helper()
	reached, freed := make(chan struct{}), make(chan error, 1)
	m.ledger.importAll = func(stream grpc.ClientStreamingServer[ledgerv1.ImportEntriesRequest, ledgerv1.ImportEntriesResponse]) error {
		close(reached)
		_, err := stream.Recv()
		freed <- err
		return err
	}
	stream, err := ledgerv1.NewLedgerServiceClient(conn).ImportEntries(timeout(t))
	must(t, err)
	<-reached
	m.ledger.reached.Store(0)
	change()
	err = stream.RecvMsg(&ledgerv1.ImportEntriesResponse{})
	select {
	case why := <-freed:
		t.Logf("the handler was freed with %v", why)
	case <-time.After(patience):
		t.Errorf("the handler was still blocked after %s", patience)
	}
	return err
}

// idleStreams opens 10,000 streams over ten connections of one peer, and leaves open those that the server lets be.
func idleStreams(t *testing.T, m *mesh) error {
	t.Helper()
	const connections, each, limit = 10, 1000, 1000
	type result struct {
		opened, refused int
		err             error // of the last that was refused
	}
	results := make(chan result, connections)
	for range connections {
		client := ledgerv1.NewLedgerServiceClient(m.dial(reader))
		go func() {
			var r result
			for range each {
				stream, err := client.WatchEntries(t.Context(), &ledgerv1.WatchEntriesRequest{})
				if err == nil {
					_, err = stream.Recv()
				}
				if err != nil {
					r.refused, r.err = r.refused+1, err
				} else {
					r.opened++
				}
			}
			results <- r
		}()
	}
	var sum result
	for range connections {
		r := <-results
		sum.opened, sum.refused = sum.opened+r.opened, sum.refused+r.refused
		if r.err != nil {
			refused(t, r.err, codes.ResourceExhausted, "RATE_LIMITED")
			sum.err = r.err
		}
	}
	if sum.opened != limit || sum.refused != connections*each-limit {
		t.Errorf("%d streams were let open and %d refused, the limit is %d", sum.opened, sum.refused, limit)
	}
	if books := m.server.Books(); books.Streams != limit {
		t.Errorf("the server counts %+v", books)
	}
	if err := balance(t, m.dial(writer)); err != nil {
		t.Errorf("another peer suffers: %v", err)
	}
	m.ledger.reached.Store(0)
	return sum.err
}
