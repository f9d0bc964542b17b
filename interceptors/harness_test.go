package interceptors_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection"

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

// mesh is one guarded server on a loopback port, and the CA that everybody has certificates of.
type mesh struct {
	t      *testing.T
	ca     *rolecalltest.CA
	source *rolecalltest.Source
	guard  *interceptors.Guard
	server *interceptors.Server
	ledger *ledger
	proofs *fakeProofs // of the server's guard
	once   *fakeOnce
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
	m := &mesh{
		t: t, ca: rolecalltest.NewCA(t, "mesh.local"), ledger: &ledger{}, proofs: &fakeProofs{}, once: &fakeOnce{}, audit: &records{}, log: &records{},
	}
	m.source = m.ca.Source(server)
	m.guard = m.guardWith(m.source, cfg.bindings, append([]interceptors.Option{
		interceptors.With(m.proofs), interceptors.With(m.once),
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

// newGuard makes a guard whose features take every proof and every request.
func (m *mesh) newGuard(source interceptors.Source, bindings interceptors.Bindings, opts ...interceptors.Option) *interceptors.Guard {
	m.t.Helper()
	return m.guardWith(source, bindings, append(opts, interceptors.With(&fakeProofs{}), interceptors.With(&fakeOnce{}))...)
}

func (m *mesh) guardWith(source interceptors.Source, bindings interceptors.Bindings, opts ...interceptors.Option) *interceptors.Guard {
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

// patience is how long anything may take that a test waits for: longer than certificates of short, and than bindings whose
// event was lost.
const patience = 30 * time.Second

func timeout(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// eventually waits for a condition and says how long it took.
func eventually(t *testing.T, what string, condition func() bool, explain ...func() any) {
	t.Helper()
	start := time.Now()
	for tick := time.NewTicker(5 * time.Millisecond); ; <-tick.C {
		if condition() {
			t.Logf("%s after %s", what, time.Since(start).Round(time.Millisecond))
			return
		}
		if time.Since(start) > patience {
			for _, e := range explain {
				t.Log(e())
			}
			t.Fatalf("no %s within %s", what, patience)
		}
	}
}

// clock is a wall clock that a test sets forward.
type clock struct{ ahead atomic.Int64 }

func (c *clock) now() time.Time { return time.Now().Add(time.Duration(c.ahead.Load())) }

func (c *clock) forward(d time.Duration) { c.ahead.Add(int64(d)) }

func (c *clock) configure(cfg *meshConfig) {
	cfg.options = append(cfg.options, interceptors.WithClock(c.now))
}

func bindings(yaml string) func(*meshConfig) {
	return func(c *meshConfig) { c.bindings = interceptors.BindingsYAML([]byte(yaml)) }
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
