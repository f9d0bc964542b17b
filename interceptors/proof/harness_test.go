package proof_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"

	keysv1 "example.com/rolecall/gen/keys/v1"
	"example.com/rolecall/interceptors"
	"example.com/rolecall/interceptors/proof"
	"example.com/rolecall/rolecalltest"
)

const (
	bankPath  = "/service/bank"
	otherBank = "/service/otherbank"
	keysPath  = "/service/keys"
	payer     = "/service/payer" // with the role bank.payer, like relay and second
	second    = "/service/second"
	relay     = "/service/relay"
	nobody    = "/operator/carol" // without
)

const roles = `
trustDomain: mesh.local
bindings:
  - role: bank.payer
    members: [spiffe://mesh.local/service/payer, spiffe://mesh.local/service/second, spiffe://mesh.local/service/relay]
`

// mesh is a bank and a key server, each behind a guard of its own on loopback.
type mesh struct {
	t        testing.TB
	ca       *rolecalltest.CA
	clock    clock // of the bank's proofs
	keys     *keyServer
	keysAddr string
	stopKeys func()
	bank     *bank
	addr     string
	source   *rolecalltest.Source // of the bank
	feature  *proof.Feature       // of the bank
	bindings string               // file
	stop     func()               // the bank
	audit    *records
	log      *records
	config   meshConfig
}

type meshConfig struct {
	config  proof.Config
	noKeys  bool // there is no key server
	cold    bool // the bank starts now, and not a while ago
	options []interceptors.Option
	now     func() time.Time
	faults  *faults // of the source that the bank's proofs have
	before  func(*mesh)
}

func newMesh(t testing.TB, configure ...func(*meshConfig)) *mesh {
	t.Helper()
	m := &mesh{t: t, ca: rolecalltest.NewCA(t, "mesh.local"), bank: &bank{t: t}, audit: &records{}, log: &records{}, keys: newKeyServer()}
	for _, c := range configure {
		c(&m.config)
	}
	if m.config.now == nil {
		m.config.now = m.clock.now
	}
	m.bindings = filepath.Join(t.TempDir(), "roles.yaml")
	must(t, os.WriteFile(m.bindings, []byte(roles), 0o600))
	if !m.config.noKeys {
		m.serveKeys(listen(t))
	}
	if m.config.before != nil {
		m.config.before(m)
	}
	m.source = m.ca.Source(bankPath)
	m.start()
	if !m.config.noKeys {
		must(t, m.feature.Announced(timeout(t))) // so that signers find the key of its receipts
	}
	return m
}

// start starts the bank, which has been up for a while unless the mesh is to be cold.
func (m *mesh) start() {
	m.t.Helper()
	cfg := m.config.config
	if !m.config.noKeys {
		cfg.Target, cfg.Server = m.keysAddr, m.ca.ID(keysPath)
	}
	m.feature = proof.NewFast(cfg)
	if !m.config.cold {
		m.clock.forward(-time.Minute)
	}
	guard := m.newGuard(m.source, interceptors.BindingsFile(m.bindings), append([]interceptors.Option{
		interceptors.Audit(slog.NewJSONHandler(m.audit, nil)), interceptors.AuditAllowed(),
		interceptors.Logger(slog.New(slog.NewTextHandler(m.log, nil))), interceptors.With(m.config.faults.of(&clocked{m.feature, m.config.now})),
	}, m.config.options...)...)
	if !m.config.cold {
		m.clock.forward(time.Minute)
	}
	server := guard.NewServer()
	m.bank.register(server)
	m.addr, m.stop = serve(m.t, server, listen(m.t))
	close := m.stop
	m.stop = func() { close(); must(m.t, guard.Close()) }
}

// restart stops the bank, and starts it again with the same configuration.
func (m *mesh) restart() {
	m.stop()
	m.start()
}

// serveKeys starts the key server.
func (m *mesh) serveKeys(lis net.Listener) {
	guard := m.newGuard(m.ca.Source(keysPath), interceptors.BindingsYAML([]byte(roles)), interceptors.Audit(slog.DiscardHandler), quiet())
	server := guard.NewServer()
	keysv1.RegisterKeysServiceServer(server, m.keys)
	m.keysAddr, m.stopKeys = serve(m.t, server, lis)
}

// bare returns a client of the bank that adds nothing of its own, with the certificate of a workload.
func (m *mesh) bare(source *rolecalltest.Source) *grpc.ClientConn {
	m.t.Helper()
	guard := m.newGuard(source, nil, interceptors.Audit(slog.DiscardHandler), quiet())
	conn, err := guard.NewClient(m.addr, m.ca.ID(bankPath))
	must(m.t, err)
	m.t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func quiet() interceptors.Option { return interceptors.Logger(slog.New(slog.DiscardHandler)) }

func (m *mesh) newGuard(source interceptors.Source, bindings interceptors.Bindings, opts ...interceptors.Option) *interceptors.Guard {
	m.t.Helper()
	guard, err := interceptors.New(source, bindings, opts...)
	must(m.t, err)
	m.t.Cleanup(func() {
		if err := guard.Close(); err != nil {
			m.t.Errorf("Close: %v", err)
		}
	})
	return guard
}

// bind replaces the bindings of the bank, and waits until they are in force.
func (m *mesh) bind(text string, inForce func() bool) {
	m.t.Helper()
	next := m.bindings + ".new"
	must(m.t, os.WriteFile(next, []byte(text), 0o600))
	must(m.t, os.Rename(next, m.bindings))
	eventually(m.t, "change of the bindings", inForce)
}

func listen(t testing.TB) net.Listener {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	return lis
}

// serve returns the address, and what stops the server.
func serve(t testing.TB, server *interceptors.Server, lis net.Listener) (string, func()) {
	t.Helper()
	served := make(chan error, 1)
	go func() { served <- server.Serve(lis) }()
	stop := sync.OnceFunc(func() {
		server.Stop()
		if err := <-served; err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			t.Errorf("Serve: %v", err)
		}
	})
	t.Cleanup(stop)
	return lis.Addr().String(), stop
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// refused checks code and reason of a refusal and returns the metadata of its ErrorInfo.
func refused(t testing.TB, err error, code codes.Code, reason string) map[string]string {
	t.Helper()
	if info := infoOf(err); status.Code(err) != code || info.GetReason() != reason {
		t.Fatalf("got %v with %v, want code %s and reason %s", err, info, code, reason)
	}
	return infoOf(err).GetMetadata()
}

func infoOf(err error) *errdetails.ErrorInfo {
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok && info.GetDomain() == "rolecall" {
			return info
		}
	}
	return nil
}

func makeFolder(t testing.TB, path string) {
	t.Helper()
	must(t, os.MkdirAll(path, 0o700))
}

func removeFolder(t testing.TB, path string) {
	t.Helper()
	must(t, os.RemoveAll(path))
}

// counting counts the attempts of calls.
type counting struct {
	attempts *atomic.Int64
	begin    func(n int64) // nil: nothing
}

func (c counting) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context { return ctx }

func (c counting) HandleRPC(_ context.Context, s stats.RPCStats) {
	if _, ok := s.(*stats.Begin); !ok {
		return
	}
	if n := c.attempts.Add(1); c.begin != nil {
		c.begin(n)
	}
}

func (c counting) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }
func (c counting) HandleConn(context.Context, stats.ConnStats)                       {}
