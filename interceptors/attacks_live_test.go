package interceptors_test

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	ledgerv1 "example.com/rolecall/gen/ledger/v1"
	"example.com/rolecall/interceptors"
	"example.com/rolecall/rolecalltest"
)

// liveAttacks are made by peers whose connection was good when it began.
var liveAttacks = []attack{
	{name: "expired certificate on a live connection", verdict: verdict{code: codes.Unauthenticated, reason: "PEER_CERTIFICATE_EXPIRED"}, audit: "PEER_CERTIFICATE_EXPIRED",
		run: func(t *testing.T, m *mesh) error { return callUntilRefused(t, m, m.dialAs(m.ca.Source(reader, short))) }},
	{name: "expired certificate on an open idle stream", verdict: verdict{code: codes.Unauthenticated, reason: "PEER_CERTIFICATE_EXPIRED"}, audit: "PEER_CERTIFICATE_EXPIRED",
		run: func(t *testing.T, m *mesh) error {
			return idleStream(t, m, m.dialAs(m.ca.Source(reader, short)), func() {})
		}},
	{name: "expired certificate on a stream blocked in SendMsg by a client that does not read", verdict: verdict{code: codes.Unauthenticated, reason: "PEER_CERTIFICATE_EXPIRED"}, audit: "PEER_CERTIFICATE_EXPIRED",
		run: func(t *testing.T, m *mesh) error {
			return blockedSender(t, m, m.dialAs(m.ca.Source(reader, short)), func() {})
		}},
	{name: "expired certificate on a stream blocked in RecvMsg", verdict: verdict{code: codes.Unauthenticated, reason: "PEER_CERTIFICATE_EXPIRED"}, audit: "PEER_CERTIFICATE_EXPIRED",
		mesh: bindings(adminRoles),
		run: func(t *testing.T, m *mesh) error {
			return blockedReceiver(t, m, m.dialAs(m.ca.Source("/service/admin", short)), func() {})
		}},
	{name: "ID denied while connected", verdict: verdict{code: codes.PermissionDenied, reason: "IDENTITY_DENIED"}, audit: "IDENTITY_DENIED",
		run: func(t *testing.T, m *mesh) error {
			file := m.useFile(t)
			conn := m.dial(reader)
			must(t, balance(t, conn))
			file.write(t, roles+"denied:\n  - member: spiffe://mesh.local/service/reader\n    reason: stolen\n")
			return callUntilRefused(t, m, conn)
		}},
	{name: "key denied while connected", verdict: verdict{code: codes.PermissionDenied, reason: "IDENTITY_DENIED"}, audit: "IDENTITY_DENIED",
		run: func(t *testing.T, m *mesh) error {
			file := m.useFile(t)
			source := m.ca.Source(reader)
			conn := m.dialAs(source)
			must(t, balance(t, conn))
			file.write(t, roles+"denied:\n  - keySha256: "+keyOf(source)+"\n")
			return callUntilRefused(t, m, conn)
		}},
	{name: "ID denied while a stream is open and idle", verdict: verdict{code: codes.PermissionDenied, reason: "IDENTITY_DENIED"}, audit: "IDENTITY_DENIED",
		run: func(t *testing.T, m *mesh) error {
			file := m.useFile(t)
			return idleStream(t, m, m.dial(reader), func() {
				file.write(t, roles+"denied:\n  - member: spiffe://mesh.local/service/reader\n")
			})
		}},
	{name: "key of the CA denied while connected", verdict: verdict{code: codes.Unauthenticated, reason: "PEER_NOT_TRUSTED"}, audit: "PEER_NOT_TRUSTED",
		run: func(t *testing.T, m *mesh) error {
			file := m.useFile(t)
			conn := m.dial(reader)
			must(t, balance(t, conn))
			sum := sha256.Sum256(m.ca.Root().RawSubjectPublicKeyInfo)
			file.write(t, roles+"denied:\n  - keySha256: "+hex.EncodeToString(sum[:])+"\n")
			return callUntilRefused(t, m, conn)
		}},
	{name: "CA left the bundle while connected", verdict: verdict{code: codes.Unauthenticated, reason: "PEER_NOT_TRUSTED"}, audit: "PEER_NOT_TRUSTED",
		run: func(t *testing.T, m *mesh) error {
			conn := m.dial(reader)
			must(t, balance(t, conn))
			m.source.Trust(rolecalltest.NewCA(t, "mesh.local"))
			return callUntilRefused(t, m, conn)
		}},
	{name: "CA left the bundle while a stream is open and idle", verdict: verdict{code: codes.Unauthenticated, reason: "PEER_NOT_TRUSTED"}, audit: "PEER_NOT_TRUSTED",
		run: func(t *testing.T, m *mesh) error {
			return idleStream(t, m, m.dial(reader), func() { m.source.Trust(rolecalltest.NewCA(t, "mesh.local")) })
		}},
	{name: "role taken away on an open connection", verdict: verdict{code: codes.PermissionDenied, reason: "ROLE_REQUIRED"}, audit: "ROLE_REQUIRED",
		run: func(t *testing.T, m *mesh) error {
			file := m.useFile(t)
			conn := m.dial(reader)
			must(t, balance(t, conn))
			file.write(t, noRoles)
			return callUntilRefused(t, m, conn)
		}},
	{name: "role taken away from an open idle stream", verdict: verdict{code: codes.PermissionDenied, reason: "ROLE_REQUIRED"}, audit: "ROLE_REQUIRED",
		run: func(t *testing.T, m *mesh) error {
			file := m.useFile(t)
			return idleStream(t, m, m.dial(reader), func() { file.write(t, noRoles) })
		}},
	{name: "role taken away from a stream blocked in SendMsg by a client that does not read", verdict: verdict{code: codes.PermissionDenied, reason: "ROLE_REQUIRED"}, audit: "ROLE_REQUIRED",
		run: func(t *testing.T, m *mesh) error {
			file := m.useFile(t)
			return blockedSender(t, m, m.dial(reader), func() { file.write(t, noRoles) })
		}},
	{name: "role taken away from a stream blocked in RecvMsg", verdict: verdict{code: codes.PermissionDenied, reason: "ROLE_REQUIRED"}, audit: "ROLE_REQUIRED",
		run: func(t *testing.T, m *mesh) error {
			file := m.useFile(t)
			file.write(t, adminRoles)
			conn := m.dial("/service/admin")
			eventually(t, "the role", func() bool { return transfer(t, conn) == nil })
			return blockedReceiver(t, m, conn, func() { file.write(t, noRoles) })
		}},
	{name: "10,000 idle streams from one peer", verdict: verdict{code: codes.ResourceExhausted, reason: "RATE_LIMITED"}, audit: "RATE_LIMITED",
		run: func(t *testing.T, m *mesh) error {
			// Over as many connections as it takes: one carries 1,000 at most.
			const wanted = 10_000
			var opened int
			var first error
			for n := 0; n < wanted && first == nil; n += 900 {
				client := ledgerv1.NewLedgerServiceClient(m.dial(reader))
				for range 900 {
					stream, err := client.WatchEntries(timeout(t), &ledgerv1.WatchEntriesRequest{})
					must(t, err)
					if _, first = stream.Recv(); first != nil {
						break
					}
					opened++
				}
			}
			t.Logf("%d streams stayed open", opened)
			if opened != 1000 {
				t.Errorf("%d streams were let open, the limit is 1000", opened)
			}
			if err := balance(t, m.dial(writer)); err != nil {
				t.Errorf("another peer suffers: %v", err)
			}
			m.ledger.reached.Store(0)
			return first
		}},
}

const noRoles = "trustDomain: mesh.local\nbindings: []\n"

const adminRoles = `
trustDomain: mesh.local
bindings:
  - role: ledger.admin
    members: [spiffe://mesh.local/service/admin]
`

// short makes a certificate that soon expires.
func short(c *x509.Certificate) { c.NotAfter = time.Now().Add(5 * time.Second).Truncate(time.Second) }

func bindings(yaml string) func(*meshConfig) {
	return func(c *meshConfig) { c.bindings = interceptors.BindingsYAML([]byte(yaml)) }
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func keyOf(source *rolecalltest.Source) string {
	svid, _ := source.GetX509SVID()
	sum := sha256.Sum256(svid.Certificates[0].RawSubjectPublicKeyInfo)
	return hex.EncodeToString(sum[:])
}

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

// blockedSender has the handler of a stream blocked in SendMsg, by a client that does not read until the handler has
// been freed. The client then reads all that was sent and the refusal behind it, unless the connection was closed.
func blockedSender(t *testing.T, m *mesh, conn *grpc.ClientConn, change func()) error {
	t.Helper()
	freed, sent := make(chan error, 1), make(chan int, 1_000_000)
	m.ledger.watch = func(stream grpc.ServerStreamingServer[ledgerv1.WatchEntriesResponse]) error {
		message := &ledgerv1.WatchEntriesResponse{Entry: &ledgerv1.Entry{EntryId: string(make([]byte, 1024))}}
		for n := 0; ; n++ {
			if err := stream.Send(message); err != nil {
				freed <- err
				return err
			}
			sent <- n
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	_, err := ledgerv1.NewLedgerServiceClient(conn).WatchEntries(ctx, &ledgerv1.WatchEntriesRequest{})
	must(t, err)
	blocked := 0
	eventually(t, "blocked sender", func() bool {
		n := len(sent)
		still := n > 0 && n == blocked
		blocked = n
		return still && n > 30
	})
	m.ledger.reached.Store(0)
	start := time.Now()
	change()
	select {
	case err := <-freed:
		t.Logf("the handler was freed after %s with %v, %d messages were sent", time.Since(start).Round(time.Millisecond), err, len(sent))
		return err
	case <-time.After(15 * time.Second):
		return fmt.Errorf("the handler was still blocked after 15 s")
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
	case <-time.After(10 * time.Second):
		t.Error("the handler was still blocked after 10 s")
	}
	return err
}
