package interceptors_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/status"

	ledgerv1 "example.com/rolecall/gen/ledger/v1"
	"example.com/rolecall/interceptors"
	"example.com/rolecall/rolecalltest"
)

func TestTheHandlerSeesTheCaller(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	var got interceptors.Caller
	var rolesHeld []string
	m.ledger.getBalance = func(ctx context.Context) error {
		got = interceptors.CallerFrom(ctx)
		rolesHeld = got.Roles()
		if !got.HasRole("ledger.reader") || got.HasRole("ledger.admin") || got.HasRole("no.such") {
			t.Error("HasRole is wrong")
		}
		return nil
	}
	must(t, balance(t, m.dial(writer)))
	if got.ID().String() != "spiffe://mesh.local/service/writer" || !slices.Equal(rolesHeld, []string{"ledger.reader", "ledger.writer"}) {
		t.Errorf("got caller %s with roles %v", got.ID(), rolesHeld)
	}
	_, err := ledgerv1.NewLedgerServiceClient(m.dial(writer)).GetBalance(interceptors.Narrow(timeout(t), "ledger.reader"), &ledgerv1.GetBalanceRequest{})
	must(t, err)
	if !slices.Equal(rolesHeld, []string{"ledger.reader"}) {
		t.Errorf("after narrowing the handler sees %v", rolesHeld)
	}
}

func TestRequireInAHandler(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	m.ledger.getBalance = func(ctx context.Context) error { return interceptors.CallerFrom(ctx).Require("ledger.writer") }
	must(t, balance(t, m.dial(writer)))
	info := refused(t, balance(t, m.dial(reader)), codes.PermissionDenied, "ROLE_REQUIRED")
	if info["role"] != "ledger.writer" || info["method"] != "/ledger.v1.LedgerService/GetBalance" {
		t.Errorf("metadata %v", info)
	}
	m.audit.find(t, map[string]any{"event": "handler", "verdict": "denied", "reason": "ROLE_REQUIRED", "workload": "spiffe://mesh.local/service/reader"})
	refused(t, interceptors.CallerFrom(t.Context()).Require("ledger.writer"), codes.PermissionDenied, "ROLE_REQUIRED")
}

func TestOutsideOfACallThereIsNobody(t *testing.T) {
	t.Parallel()
	nobody := interceptors.CallerFrom(t.Context())
	if !nobody.ID().IsZero() || nobody.HasRole("ledger.reader") || nobody.Roles() != nil {
		t.Errorf("got %v", nobody)
	}
}

func TestPanics(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	m.ledger.getBalance = func(context.Context) error { panic("secret 4711") }
	m.ledger.watch = func(grpc.ServerStreamingServer[ledgerv1.WatchEntriesResponse]) error { panic("secret 4711") }
	conn := m.dial(reader)
	for range 2 {
		err := balance(t, conn)
		refused(t, err, codes.Internal, "INTERNAL")
		if strings.Contains(err.Error(), "4711") {
			t.Errorf("the caller learns of the panic: %v", err)
		}
		_, err = watchOnce(t, conn)
		refused(t, err, codes.Internal, "INTERNAL")
	}
	eventually(t, "stack in the log", func() bool { return strings.Count(m.log.String(), "secret 4711") == 4 })
}

// brokenClock panics once armed, in every check or only in those of calls and handshakes.
type brokenClock struct{ calls, sweeps atomic.Bool }

func (c *brokenClock) now() time.Time {
	if c.calls.Load() || c.sweeps.Load() {
		if inSweep := bytes.Contains(debug.Stack(), []byte(").sweep(")); inSweep && c.sweeps.Load() || !inSweep && c.calls.Load() {
			panic("the clock is broken")
		}
	}
	return time.Now()
}

func TestPanicInACheckRefusesTheCall(t *testing.T) {
	t.Parallel()
	clock := &brokenClock{}
	m := newMesh(t, func(c *meshConfig) { c.options = []interceptors.Option{interceptors.WithClock(clock.now)} })
	// Connected, but nothing has been decided about them yet.
	unary, stream := connected(t, m.dial(reader)), connected(t, m.dial(reader))
	clock.calls.Store(true)
	refused(t, balance(t, unary), codes.Internal, "INTERNAL")
	_, err := watchOnce(t, stream)
	refused(t, err, codes.Internal, "INTERNAL")
	handshake.check(t, m.shake(t, m.cert(m.ca.Issue(reader)), nil))
	if n := m.ledger.reached.Load(); n != 0 {
		t.Errorf("a handler was reached %d times", n)
	}
	m.audit.find(t, map[string]any{"verdict": "denied", "reason": "INTERNAL", "method": "/ledger.v1.LedgerService/GetBalance"})
}

func TestPanicInACheckOfAnOpenStreamClosesItsConnection(t *testing.T) {
	t.Parallel()
	clock := &brokenClock{}
	m := newMesh(t, func(c *meshConfig) { c.options = []interceptors.Option{interceptors.WithClock(clock.now)} })
	conn := m.dial(reader)
	stream := watch(t, conn)
	clock.sweeps.Store(true)
	if _, err := stream.Recv(); status.Code(err) != codes.Unavailable {
		t.Fatalf("the stream ended with %v", err)
	}
	clock.sweeps.Store(false)
	eventually(t, "the mesh, working again", func() bool { return balance(t, conn) == nil })
}

func connected(t *testing.T, conn *grpc.ClientConn) *grpc.ClientConn {
	t.Helper()
	conn.Connect()
	for state := conn.GetState(); state != connectivity.Ready; state = conn.GetState() {
		if !conn.WaitForStateChange(timeout(t), state) {
			t.Fatalf("the connection is still %s", state)
		}
	}
	return conn
}

func TestABrokenFileChangesNothingAndIsReported(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	file := m.useFile(t)
	conn := m.dial(reader)
	must(t, balance(t, conn))
	good := file.guard.Status().PolicyVersion
	for _, content := range []string{"trustDomain: mesh.local\nbindings: [}", "", "trustDomain: other.local\n", roles + "surprise: true\n"} {
		file.write(t, content)
		eventually(t, "report of the broken file", func() bool { return file.guard.Status().PolicyError != nil })
		t.Log(file.guard.Status().PolicyError)
		must(t, balance(t, conn))
		if v := file.guard.Status().PolicyVersion; v != good {
			t.Errorf("policy version went from %s to %s", good, v)
		}
		file.write(t, roles)
		eventually(t, "end of the report", func() bool { return file.guard.Status().PolicyError == nil })
	}
	must(t, os.Remove(file.path))
	eventually(t, "report of the missing file", func() bool { return file.guard.Status().PolicyError != nil })
	must(t, balance(t, conn))
}

func TestARoleThatIsGivenWorksOnTheOpenConnection(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	file := m.useFile(t)
	conn := m.dial(nobody)
	refused(t, balance(t, conn), codes.PermissionDenied, "ROLE_REQUIRED")
	file.write(t, strings.Replace(roles, "/service/reader", "/service/nobody", 1))
	eventually(t, "the role", func() bool { return balance(t, conn) == nil })
}

func TestClientsRefuse(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	guard := m.newGuard(m.ca.Source(reader), nil, interceptors.Audit(jsonTo(m.audit)))
	t.Run("a server that is another workload", func(t *testing.T) {
		conn, err := guard.NewClient(m.addr, m.ca.ID("/service/other"))
		must(t, err)
		defer conn.Close()
		handshake.check(t, balance(t, conn))
		m.audit.find(t, map[string]any{"event": "dial", "reason": "wrong_server"})
	})
	t.Run("an ID without a path", func(t *testing.T) {
		if _, err := guard.NewClient(m.addr, m.ca.TrustDomain().ID()); err == nil {
			t.Fatal("NewClient took it")
		}
	})
	t.Run("a server that the bindings deny", func(t *testing.T) {
		denying := m.newGuard(m.ca.Source(reader), interceptors.BindingsYAML([]byte(roles+"denied:\n  - member: spiffe://mesh.local/service/ledger\n")), interceptors.Audit(jsonTo(m.audit)))
		conn, err := denying.NewClient(m.addr, m.ca.ID(server))
		must(t, err)
		defer conn.Close()
		handshake.check(t, balance(t, conn))
		m.audit.find(t, map[string]any{"event": "dial", "reason": "denied"})
	})
}

func TestClientsGoOnCheckingTheServer(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	t.Run("its CA leaves the bundle", func(t *testing.T) {
		t.Parallel()
		source := m.ca.Source(reader)
		stream := watch(t, m.dialAs(source))
		source.Trust(rolecalltest.NewCA(t, "mesh.local"))
		_, err := stream.Recv()
		if status.Code(err) != codes.Unavailable {
			t.Fatalf("the stream ended with %v", err)
		}
	})
	t.Run("its certificate expires", func(t *testing.T) {
		t.Parallel()
		m := newMesh(t)
		// The server was made with a long certificate and shows a short one.
		cert, key := m.ca.Issue(server, short)
		m.source.Use(key, cert)
		stream := watch(t, m.dial(reader))
		m.source.Renew()
		_, err := stream.Recv()
		if status.Code(err) != codes.Unavailable {
			t.Fatalf("the stream ended with %v", err)
		}
	})
}

// TestAClientWithANewerCertificateTriesOnceMore has a client whose certificate expires while its connection is open.
func TestAClientWithANewerCertificateTriesOnceMore(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	source := m.ca.Source(reader, short)
	svid, err := source.GetX509SVID()
	must(t, err)
	conn := m.dialAs(source)
	must(t, balance(t, conn))
	source.Renew()
	calls := 0
	for time.Now().Before(svid.Certificates[0].NotAfter.Add(time.Second)) {
		calls++
		if err := balance(t, conn); err != nil {
			t.Fatalf("call %d: %v", calls, err)
		}
	}
	t.Logf("%d calls, none failed", calls)
}

func TestGracefulStopFinishesCallsInFlight(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	reached, release := make(chan struct{}), make(chan struct{})
	m.ledger.importAll = func(stream grpc.ClientStreamingServer[ledgerv1.ImportEntriesRequest, ledgerv1.ImportEntriesResponse]) error {
		close(reached)
		<-release
		return stream.SendAndClose(&ledgerv1.ImportEntriesResponse{Imported: 7})
	}
	srv := m.newGuard(m.source, interceptors.BindingsYAML([]byte(adminRoles))).NewServer()
	ledgerv1.RegisterLedgerServiceServer(srv, m.ledger)
	m.addr = m.serve(srv)
	stream, err := ledgerv1.NewLedgerServiceClient(m.dial("/service/admin")).ImportEntries(timeout(t))
	must(t, err)
	<-reached
	stopped := make(chan struct{})
	go func() { srv.GracefulStop(); close(stopped) }()
	close(release)
	answer := &ledgerv1.ImportEntriesResponse{}
	if err := stream.RecvMsg(answer); err != nil && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	if answer.Imported != 7 {
		t.Errorf("got %v", answer)
	}
	<-stopped
}

func TestALongUnaryCallIsCutToWhatADrainedConnectionHas(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	var left time.Duration
	m.ledger.getBalance = func(ctx context.Context) error {
		deadline, _ := ctx.Deadline()
		left = time.Until(deadline)
		return nil
	}
	ctx, cancel := context.WithTimeout(t.Context(), 24*time.Hour)
	defer cancel()
	_, err := ledgerv1.NewLedgerServiceClient(m.dial(reader)).GetBalance(ctx, &ledgerv1.GetBalanceRequest{})
	must(t, err)
	// An hour of life: 0.45 h less 2 s, of which three parts in 4.1 are grace.
	if left < 19*time.Minute || left > 20*time.Minute {
		t.Errorf("the handler has %s", left)
	}
}
