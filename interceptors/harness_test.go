package interceptors_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/status"

	authorityv1 "example.com/rolecall/gen/authority/v1"
	ledgerv1 "example.com/rolecall/gen/ledger/v1"
	"example.com/rolecall/interceptors"
	"example.com/rolecall/rolecalltest"
)

const (
	server = "/service/ledger"
	reader = "/service/reader"
	writer = "/service/writer"
	nobody = "/service/nobody"
)

const roles = `
trustDomain: mesh.local
bindings:
  - role: ledger.reader
    members: [spiffe://mesh.local/service/reader]
  - role: ledger.writer
    members: [spiffe://mesh.local/service/writer]
`

// ledger is a service whose handlers can be told what to do and count how often they were reached.
type ledger struct {
	ledgerv1.UnimplementedLedgerServiceServer
	authorityv1.UnimplementedAuthorityServiceServer

	reached    atomic.Int64
	getBalance func(context.Context) error
	watch      func(grpc.ServerStreamingServer[ledgerv1.WatchEntriesResponse]) error
	importAll  func(grpc.ClientStreamingServer[ledgerv1.ImportEntriesRequest, ledgerv1.ImportEntriesResponse]) error
}

func (l *ledger) GetBalance(ctx context.Context, _ *ledgerv1.GetBalanceRequest) (*ledgerv1.GetBalanceResponse, error) {
	l.reached.Add(1)
	if l.getBalance != nil {
		return &ledgerv1.GetBalanceResponse{}, l.getBalance(ctx)
	}
	return &ledgerv1.GetBalanceResponse{}, nil
}

func (l *ledger) Transfer(context.Context, *ledgerv1.TransferRequest) (*ledgerv1.TransferResponse, error) {
	l.reached.Add(1)
	return &ledgerv1.TransferResponse{}, nil
}

// GetBundle is a method that any workload may call.
func (l *ledger) GetBundle(context.Context, *authorityv1.GetBundleRequest) (*authorityv1.GetBundleResponse, error) {
	l.reached.Add(1)
	return &authorityv1.GetBundleResponse{}, nil
}

func (l *ledger) WatchEntries(_ *ledgerv1.WatchEntriesRequest, stream grpc.ServerStreamingServer[ledgerv1.WatchEntriesResponse]) error {
	l.reached.Add(1)
	if l.watch != nil {
		return l.watch(stream)
	}
	if err := stream.Send(&ledgerv1.WatchEntriesResponse{}); err != nil {
		return err
	}
	<-stream.Context().Done()
	return stream.Context().Err()
}

func (l *ledger) ImportEntries(stream grpc.ClientStreamingServer[ledgerv1.ImportEntriesRequest, ledgerv1.ImportEntriesResponse]) error {
	l.reached.Add(1)
	if l.importAll != nil {
		return l.importAll(stream)
	}
	_, err := stream.Recv()
	return err
}

// records keeps audit records as what they are on disk: JSON lines.
type records struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (r *records) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.buf.Write(p)
}

func (r *records) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.buf.String()
}

// find waits for a record in which every given key has the given value.
func (r *records) find(t *testing.T, want map[string]any) map[string]any {
	t.Helper()
	var found map[string]any
	eventually(t, "an audit record", func() bool {
		for line := range strings.Lines(r.String()) {
			got := map[string]any{}
			if json.Unmarshal([]byte(line), &got) != nil {
				continue
			}
			matches := true
			for key, value := range want {
				matches = matches && got[key] == value
			}
			if matches {
				found = got
				return true
			}
		}
		return false
	}, func() any { return []any{"want", want, "records", r.String()} })
	return found
}

// mesh is one guarded server on a loopback port, and the CA that everybody has certificates of.
type mesh struct {
	t      *testing.T
	ca     *rolecalltest.CA
	source *rolecalltest.Source
	guard  *interceptors.Guard
	server *interceptors.Server
	ledger *ledger
	addr   string
	audit  *records
	log    *records
}

type meshConfig struct {
	bindings interceptors.Bindings
	options  []interceptors.Option
	grpc     []grpc.ServerOption
	register func(*interceptors.Server)
}

func newMesh(t *testing.T, configure ...func(*meshConfig)) *mesh {
	t.Helper()
	cfg := meshConfig{bindings: interceptors.BindingsYAML([]byte(roles))}
	for _, c := range configure {
		c(&cfg)
	}
	m := &mesh{t: t, ca: rolecalltest.NewCA(t, "mesh.local"), ledger: &ledger{}, audit: &records{}, log: &records{}}
	m.source = m.ca.Source(server)
	m.guard = m.newGuard(m.source, cfg.bindings, append([]interceptors.Option{
		interceptors.Audit(slog.NewJSONHandler(m.audit, nil)),
		interceptors.Logger(slog.New(slog.NewTextHandler(m.log, nil))),
		interceptors.AuditAllowed(),
	}, cfg.options...)...)
	m.server = m.guard.NewServer(cfg.grpc...)
	ledgerv1.RegisterLedgerServiceServer(m.server, m.ledger)
	authorityv1.RegisterAuthorityServiceServer(m.server, m.ledger)
	healthpb.RegisterHealthServer(m.server, health.NewServer())
	reflection.Register(m.server)
	if cfg.register != nil {
		cfg.register(m.server)
	}
	m.addr = m.serve(m.server)
	return m
}

func (m *mesh) newGuard(source interceptors.Source, bindings interceptors.Bindings, opts ...interceptors.Option) *interceptors.Guard {
	m.t.Helper()
	guard, err := interceptors.New(source, bindings, opts...)
	if err != nil {
		m.t.Fatalf("New: %v", err)
	}
	m.t.Cleanup(func() {
		if err := guard.Close(); err != nil {
			m.t.Errorf("Close: %v", err)
		}
	})
	return guard
}

func (m *mesh) serve(s *interceptors.Server) string {
	m.t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		m.t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(lis) }()
	m.t.Cleanup(func() {
		s.Stop()
		// A test that ends soon may stop the server before it has begun to serve.
		if err := <-served; err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			m.t.Errorf("Serve: %v", err)
		}
	})
	return lis.Addr().String()
}

// dial returns a client of the mesh's server that has a certificate for path.
func (m *mesh) dial(path string) *grpc.ClientConn { return m.dialAs(m.ca.Source(path)) }

func (m *mesh) dialAs(source interceptors.Source) *grpc.ClientConn {
	m.t.Helper()
	guard := m.newGuard(source, nil, interceptors.Audit(slog.DiscardHandler))
	conn, err := guard.NewClient(m.addr, m.ca.ID(server))
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func timeout(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func balance(t *testing.T, conn grpc.ClientConnInterface) error {
	_, err := ledgerv1.NewLedgerServiceClient(conn).GetBalance(timeout(t), &ledgerv1.GetBalanceRequest{})
	return err
}

func transfer(t *testing.T, conn grpc.ClientConnInterface) error {
	_, err := ledgerv1.NewLedgerServiceClient(conn).Transfer(timeout(t), &ledgerv1.TransferRequest{})
	return err
}

// watch opens a stream and waits for its first message, after which the handler is idle.
func watch(t *testing.T, conn grpc.ClientConnInterface) grpc.ServerStreamingClient[ledgerv1.WatchEntriesResponse] {
	t.Helper()
	stream, err := ledgerv1.NewLedgerServiceClient(conn).WatchEntries(timeout(t), &ledgerv1.WatchEntriesRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatalf("first message: %v", err)
	}
	return stream
}

// refused checks code and reason of a refusal and returns the metadata of its ErrorInfo.
func refused(t *testing.T, err error, code codes.Code, reason string) map[string]string {
	t.Helper()
	if status.Code(err) != code {
		t.Fatalf("got %v, want code %s and reason %s", err, code, reason)
	}
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok && info.Domain == "rolecall" {
			if info.Reason != reason {
				t.Fatalf("got reason %s, want %s", info.Reason, reason)
			}
			return info.Metadata
		}
	}
	if reason != "" {
		t.Fatalf("got no ErrorInfo in %v, want reason %s", err, reason)
	}
	return nil
}

// eventually waits up to ten seconds and says how long it took.
func eventually(t *testing.T, what string, condition func() bool, explain ...func() any) {
	t.Helper()
	start := time.Now()
	for tick := time.NewTicker(5 * time.Millisecond); ; <-tick.C {
		if condition() {
			t.Logf("%s after %s", what, time.Since(start).Round(time.Millisecond))
			return
		}
		if time.Since(start) > 10*time.Second {
			for _, e := range explain {
				t.Log(e())
			}
			t.Fatalf("no %s within 10 s", what)
		}
	}
}

func transferNarrowed(t *testing.T, conn grpc.ClientConnInterface, subset [][]string) error {
	ctx := timeout(t)
	for _, roles := range subset {
		ctx = interceptors.Narrow(ctx, roles...)
	}
	_, err := ledgerv1.NewLedgerServiceClient(conn).Transfer(ctx, &ledgerv1.TransferRequest{})
	return err
}

func jsonTo(r *records) slog.Handler { return slog.NewJSONHandler(r, nil) }

func textTo(r *records) *slog.Logger { return slog.New(slog.NewTextHandler(r, nil)) }

func refusedWith(err error) codes.Code { return status.Code(err) }
