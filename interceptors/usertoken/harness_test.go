package usertoken_test

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
	"google.golang.org/grpc/status"

	tokensv1 "example.com/rolecall/gen/tokens/v1"
	"example.com/rolecall/interceptors"
	"example.com/rolecall/interceptors/internal/feature"
	"example.com/rolecall/interceptors/usertoken"
	"example.com/rolecall/rolecalltest"
)

const (
	shopPath = "/service/shop"
	seller   = "/operator/bob"   // a workload with the role shop.seller
	nobody   = "/operator/carol" // one without
)

const roles = `
trustDomain: mesh.local
bindings:
  - role: tokens.verifier
    members: ["spiffe://mesh.local/service/*"]
  - role: shop.seller
    members: [spiffe://mesh.local/operator/bob]
`

// mesh is a tokens service and a shop, each behind a guard of its own on loopback.
type mesh struct {
	t       testing.TB
	ca      *rolecalltest.CA
	clock   clock
	tokens  *tokens
	target  string
	up      atomic.Bool // the tokens service
	shop    *shop
	addr    string
	source  *rolecalltest.Source // of the shop
	guard   *interceptors.Guard
	feature *watched
	audit   *records
	log     *records
}

type meshConfig struct {
	down    bool          // the tokens service is not up yet
	silence time.Duration // after which a stream of revocations is dead; zero: so long that no test gets there
	config  usertoken.Config
	options []interceptors.Option
	before  func(*mesh) // before the shop's guard is made
	now     func() time.Time
	roles   interceptors.Bindings // nil: roles
}

func newMesh(t testing.TB, configure ...func(*meshConfig)) *mesh {
	t.Helper()
	var cfg meshConfig
	for _, c := range configure {
		c(&cfg)
	}
	m := &mesh{t: t, ca: rolecalltest.NewCA(t, "mesh.local"), shop: &shop{}, audit: &records{}, log: &records{}}
	m.tokens = newTokens(t, m.ca.Source(tokensPath))
	if cfg.now == nil {
		cfg.now = m.clock.now
	}
	if cfg.roles == nil {
		cfg.roles = interceptors.BindingsYAML([]byte(roles))
	}
	m.tokens.now = cfg.now
	if cfg.before != nil {
		cfg.before(m)
	}
	lis := listen(t)
	m.target = lis.Addr().String()
	m.up.Store(!cfg.down)
	m.serveTokens(gate{lis, &m.up})
	cfg.config.Target, cfg.config.Server = m.target, m.ca.ID(tokensPath)
	m.feature = &watched{Feature: usertoken.NewFast(cfg.config, cfg.silence), now: cfg.now}
	m.source = m.ca.Source(shopPath)
	m.guard = m.newGuard(m.source, cfg.roles, append([]interceptors.Option{
		interceptors.Audit(slog.NewJSONHandler(m.audit, nil)), interceptors.AuditAllowed(),
		interceptors.Logger(slog.New(slog.NewTextHandler(m.log, nil))), interceptors.With(m.feature),
	}, cfg.options...)...)
	server := m.guard.NewServer()
	m.shop.register(t, server)
	m.addr = serve(t, server, listen(t))
	if !cfg.down {
		m.feature.followed(t)
	}
	return m
}

// gate is the listener of a service that is down until it is up. It keeps its port: another could take it meanwhile.
type gate struct {
	net.Listener
	up *atomic.Bool
}

func (g gate) Accept() (net.Conn, error) {
	for {
		conn, err := g.Listener.Accept()
		if err != nil || g.up.Load() {
			return conn, err
		}
		_ = conn.Close()
	}
}

// serveTokens starts the tokens service.
func (m *mesh) serveTokens(lis net.Listener) {
	guard := m.newGuard(m.tokens.source, interceptors.BindingsYAML([]byte(roles)), interceptors.Audit(slog.DiscardHandler), quiet())
	server := guard.NewServer()
	tokensv1.RegisterTokensServiceServer(server, m.tokens)
	serve(m.t, server, lis)
}

// another starts a second shop, with the same tokens service, and returns a client of it for the first.
func (m *mesh) another(path string) (*shop, *grpc.ClientConn) {
	m.t.Helper()
	feature := &watched{Feature: usertoken.NewFast(usertoken.Config{Target: m.target, Server: m.ca.ID(tokensPath)}, 0)}
	guard := m.newGuard(m.ca.Source(path), interceptors.BindingsYAML([]byte(roles)), interceptors.Audit(slog.DiscardHandler), quiet(), interceptors.With(feature))
	s, server := &shop{}, guard.NewServer()
	s.register(m.t, server)
	conn, err := m.guard.NewClient(serve(m.t, server, listen(m.t)), m.ca.ID(path))
	must(m.t, err)
	m.t.Cleanup(func() { _ = conn.Close() })
	feature.followed(m.t)
	return s, conn
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

func listen(t testing.TB) net.Listener {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	return lis
}

func serve(t testing.TB, server *interceptors.Server, lis net.Listener) string {
	t.Helper()
	served := make(chan error, 1)
	go func() { served <- server.Serve(lis) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-served; err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			t.Errorf("Serve: %v", err)
		}
	})
	return lis.Addr().String()
}

// dial returns a client of the shop.
func (m *mesh) dial(path string) *grpc.ClientConn {
	m.t.Helper()
	guard := m.newGuard(m.ca.Source(path), nil, interceptors.Audit(slog.DiscardHandler))
	conn, err := guard.NewClient(m.addr, m.ca.ID(shopPath))
	must(m.t, err)
	m.t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// watched is a feature with another clock, that shows itself at work.
type watched struct {
	interceptors.Feature
	now     func() time.Time
	running feature.Running
}

func (w *watched) Start(env feature.Env) (feature.Running, error) {
	if w.now != nil {
		env.Now = w.now
	}
	running, err := w.Feature.Start(env)
	w.running = running
	return running, err
}

func (w *watched) verify(token string) (*feature.User, feature.Verdict, string) {
	return w.running.(feature.Users).Verify(token)
}

// followed waits until the first snapshot of revocations is in.
func (w *watched) followed(t testing.TB) {
	t.Helper()
	eventually(t, "first snapshot", func() bool { complete, _ := usertoken.Following(w.running); return complete })
}

// clock is a wall clock that a test sets forward, or back.
type clock struct{ ahead atomic.Int64 }

func (c *clock) now() time.Time { return time.Now().Add(time.Duration(c.ahead.Load())) }

func (c *clock) forward(d time.Duration) { c.ahead.Add(int64(d)) }

func timeout(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// eventually waits up to thirty seconds, and says how long it took.
func eventually(t testing.TB, what string, condition func() bool, explain ...func() any) {
	t.Helper()
	start := time.Now()
	for tick := time.NewTicker(5 * time.Millisecond); ; <-tick.C {
		if condition() {
			t.Logf("%s after %s", what, time.Since(start).Round(time.Millisecond))
			return
		}
		if time.Since(start) > 30*time.Second {
			for _, e := range explain {
				t.Log(e())
			}
			t.Fatalf("no %s within 30 s", what)
		}
	}
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

// records keeps what is logged.
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

// find waits for an audit record in which every given key has the given value.
func (r *records) find(t testing.TB, want map[string]any) map[string]any {
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
