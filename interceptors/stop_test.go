package interceptors_test

import (
	"context"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	ledgerv1 "example.com/rolecall/gen/ledger/v1"
	"example.com/rolecall/interceptors/internal/feature"
)

func TestGracefulStopFinishesCallsInFlight(t *testing.T) {
	t.Parallel()
	m := newMesh(t, bindings(adminRoles))
	reached, release := make(chan struct{}), make(chan struct{})
	m.ledger.importAll = func(stream grpc.ClientStreamingServer[ledgerv1.ImportEntriesRequest, ledgerv1.ImportEntriesResponse]) error {
		close(reached)
		<-release
		return stream.SendAndClose(&ledgerv1.ImportEntriesResponse{Imported: 7})
	}
	stream, err := ledgerv1.NewLedgerServiceClient(m.dial("/service/admin")).ImportEntries(timeout(t))
	must(t, err)
	<-reached
	stopped := m.stopGracefully(t)
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

// TestGracefulStopWaitsForTheHandlerOfARefusedStream has a handler that goes on after its stream has ended: what it
// uses, a database say, is closed after the server.
func TestGracefulStopWaitsForTheHandlerOfARefusedStream(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	var finished atomic.Bool
	release := make(chan struct{})
	m.ledger.watch = func(stream grpc.ServerStreamingServer[ledgerv1.WatchEntriesResponse]) error {
		defer finished.Store(true)
		if err := stream.Send(&ledgerv1.WatchEntriesResponse{}); err != nil {
			return err
		}
		<-release
		return nil
	}
	stream := watch(t, m.dial(reader))
	must(t, m.guard.Apply(noRoles))
	_, err := stream.Recv()
	refused(t, err, codes.PermissionDenied, "ROLE_REQUIRED")
	stopped := m.stopGracefully(t)
	eventually(t, "server without connections", func() bool { return m.server.Books().Connections == 0 })
	select {
	case <-stopped:
		t.Error("GracefulStop did not wait for the handler")
	case <-time.After(300 * time.Millisecond): // nothing else would tell that it does not return
	}
	close(release)
	<-stopped
	if !finished.Load() {
		t.Error("the handler still runs")
	}
}

func TestCloseStopsTheServers(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	w := m.wire(t, m.cert(m.ca.Issue(reader)))
	w.say(w.ask(getBalance))
	ended, err := w.answer()
	must(t, err)
	must(t, ended.err)
	must(t, m.guard.Close())
	w.closed()
	if conn, err := net.Dial("tcp", m.addr); err == nil {
		_ = conn.Close()
		t.Error("the server still listens")
	}
}

// stopGracefully returns when the stop has begun; the result is closed when it has ended.
func (m *mesh) stopGracefully(t *testing.T) <-chan struct{} {
	t.Helper()
	stopped := make(chan struct{})
	go func() {
		m.server.GracefulStop()
		close(stopped)
	}()
	eventually(t, "closed listener", func() bool {
		conn, err := net.Dial("tcp", m.addr)
		if err == nil {
			_ = conn.Close()
		}
		return err != nil
	})
	return stopped
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

func TestAGracefulStopWaitsForWhatIsToTakeEffectOnce(t *testing.T) {
	t.Parallel()
	m, _ := newTill(t)
	entered, leave := make(chan struct{}), make(chan struct{})
	m.once.do = func(ctx context.Context, _ *feature.OnceCall, run run) ([]byte, feature.Verdict, string, error) {
		close(entered)
		<-leave
		response, err := run(ctx)
		if err != nil {
			return nil, feature.Good, "", err
		}
		bytes, err := proto.Marshal(response)
		return bytes, feature.Good, "", err
	}
	conn := m.dial(clerk)
	ctx := timeout(t)
	called := make(chan error, 1)
	go func() { called <- ask(ctx, conn, payOnce) }()
	<-entered
	stopped := make(chan struct{})
	go func() {
		m.server.GracefulStop()
		close(stopped)
	}()
	eventually(t, "a server that takes no new connections", func() bool {
		conn, err := net.Dial("tcp", m.addr)
		if err == nil {
			_ = conn.Close()
		}
		return err != nil
	})
	select {
	case <-stopped:
		t.Error("the server stopped while a request was taking effect")
	default:
	}
	close(leave)
	must(t, <-called)
	<-stopped
}
