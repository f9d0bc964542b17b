// Package nodetest runs services in a test as they run in production: over mutual TLS on a loopback port, guarded, with
// certificates of a CA in memory.
//
//	mesh := nodetest.New(t, roles)
//	ledger := mesh.Start(t, "ledger", url, ledger.Setup)
//	client := ledgerv1.NewLedgerServiceClient(mesh.Client(t, "/operator/alice", ledger))
//
// Where users call, mesh.Users makes some, and Company an issuer of another kind. Where signed requests are relayed,
// mesh.Directory tells which keys workloads sign with.
package nodetest

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"google.golang.org/grpc"

	"example.com/rolecall/interceptors"
	"example.com/rolecall/interceptors/exactlyonce"
	"example.com/rolecall/interceptors/proof"
	"example.com/rolecall/internal/node"
	"example.com/rolecall/rolecalltest"
)

// Patience is how long a test waits for something that ought to happen at once.
const Patience = 10 * time.Second

// WithinASecond wants one of three measurements to be a second at most: on a machine that does much else a second can pass
// without anything being wrong.
func WithinASecond(t *testing.T, what string, measure func() time.Duration) {
	t.Helper()
	for range 3 {
		took := measure()
		t.Logf("%s after %s", what, took.Round(time.Millisecond))
		if took <= time.Second {
			return
		}
	}
	t.Errorf("%s: after more than a second, three times", what)
}

// Mesh is a CA and a roles.yaml.
type Mesh struct {
	CA *rolecalltest.CA
	// Roles is the path of roles.yaml.
	Roles string
	// Tokens is where services look for the tokens service. Until it is told of one, they accept no users.
	Tokens *Relay
	// Keys is where services and clients look for the keys service. Until it is told of one, they verify proofs of peers only.
	Keys *Relay
}

// New makes a mesh of the trust domain mesh.local with the given roles.yaml.
func New(t *testing.T, roles string) *Mesh {
	t.Helper()
	m := &Mesh{CA: rolecalltest.NewCA(t, "mesh.local"), Roles: filepath.Join(t.TempDir(), "roles.yaml"), Tokens: NewRelay(t), Keys: NewRelay(t)}
	if err := os.WriteFile(m.Roles, []byte(roles), 0o600); err != nil {
		t.Fatal(err)
	}
	return m
}

// Service is a service that runs.
type Service struct {
	// Addr is where it listens; Admin is its admin address.
	Addr, Admin string
	// ID is its SPIFFE ID.
	ID spiffeid.ID

	cancel context.CancelFunc
	done   chan struct{}
	err    error
	once   sync.Once
}

// Start runs the service spiffe://mesh.local/service/<name> on a database until the test is over. Each change has its turn
// at the configuration.
func (m *Mesh) Start(t *testing.T, name, database string, setup func(context.Context, *node.Node) error, changes ...func(*node.Config)) *Service {
	t.Helper()
	s := &Service{ID: m.CA.ID("/service/" + name), done: make(chan struct{})}
	ready := make(chan struct{})
	cfg := node.Config{
		Name: name, ID: s.ID, Listen: "127.0.0.1:0", Admin: "127.0.0.1:0", Roles: m.Roles, Database: database, Dir: t.TempDir(),
		Source: m.CA.Source("/service/" + name), Audit: slog.DiscardHandler,
		Tokens: &node.Peer{Target: m.Tokens.Target(), ID: m.CA.ID("/service/tokens")},
		Keys:   m.keys(), Once: &exactlyonce.Config{},
		Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
		Ready: func(addr, admin string) {
			s.Addr, s.Admin = addr, admin
			close(ready)
		},
	}
	switch name {
	case "authority":
		cfg.Once = nil // it keeps no database
	case "tokens", "keys":
		cfg.Tokens, cfg.Keys, cfg.Once = nil, nil, nil // what the others ask them
	}
	for _, change := range changes {
		change(&cfg)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	go func() {
		defer close(s.done)
		s.err = node.Run(ctx, cfg, setup)
	}()
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	})
	select {
	case <-ready:
	case <-s.done:
		t.Fatalf("%s did not start: %v", name, s.err)
	case <-time.After(2 * Patience):
		t.Fatalf("%s did not start within %s", name, 2*Patience)
	}
	return s
}

// Begin tells the service to stop.
func (s *Service) Begin() { s.cancel() }

// Stop stops the service, waits for its end, and returns what Run returned; the second time nil.
func (s *Service) Stop() (err error) {
	s.cancel()
	<-s.done
	s.once.Do(func() { err = s.err })
	return err
}

// Peer is how other services are told of this one.
func (s *Service) Peer() node.Peer { return node.Peer{Target: "dns:///" + s.Addr, ID: s.ID} }

// keys is how services and clients are told of the keys service.
func (m *Mesh) keys() *node.Peer {
	return &node.Peer{Target: m.Keys.Target(), ID: m.CA.ID(rolecalltest.KeysPath)}
}

// Client returns a connection to a service from the workload with the given path, "/operator/alice". It signs what
// has to be signed.
func (m *Mesh) Client(t *testing.T, path string, to *Service) *grpc.ClientConn {
	t.Helper()
	keys := m.keys()
	guard, err := interceptors.New(m.CA.Source(path), nil, interceptors.Audit(slog.DiscardHandler),
		interceptors.With(proof.New(proof.Config{Target: keys.Target, Server: keys.ID})))
	if err != nil {
		t.Fatalf("guard of %s: %v", path, err)
	}
	conn, err := guard.NewClient("dns:///"+to.Addr, to.ID)
	if err != nil {
		t.Fatalf("connect %s to %s: %v", path, to.ID, err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Errorf("close the connection of %s: %v", path, err)
		}
		if err := guard.Close(); err != nil {
			t.Errorf("close the guard of %s: %v", path, err)
		}
	})
	return conn
}

// Context returns a context with a deadline that no call of a test needs.
func Context(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*Patience)
	t.Cleanup(cancel)
	return ctx
}
