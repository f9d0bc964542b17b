//go:build linux || darwin

package status_test

import (
	"context"
	"crypto/x509"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"example.com/rolecall/internal/catalog"
	"example.com/rolecall/internal/leaktest"
	"example.com/rolecall/internal/mesh"
	"example.com/rolecall/internal/node"
	"example.com/rolecall/pki"
	"example.com/rolecall/pki/agent"
	"example.com/rolecall/services/authority"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// patience is how long a test waits for what should happen at once.
const patience = 10 * time.Second

const roles = `trustDomain: mesh.local
bindings:
  - role: authority.requester
    members: [spiffe://mesh.local/service/agent]
`

// running is a small mesh in this process: an authority that serves and an agent, with files as `rolecall up` has them.
type running struct {
	dir  mesh.Dir
	file *mesh.File
	lock *mesh.Lock
}

// signer signs with the issuers of the mesh.
type signer struct{ issuers *pki.Issuers }

func (s signer) Sign(_ context.Context, csr []byte) ([]*x509.Certificate, error) {
	request, err := pki.ReadCSR(csr, s.issuers.TrustDomain())
	if err != nil {
		return nil, err
	}
	return s.issuers.Issue(pki.Leaf{ID: request.ID, DNSNames: request.DNSNames, IPAddresses: request.IPAddresses, PublicKey: request.PublicKey})
}

func start(t *testing.T) *running {
	t.Helper()
	path, err := os.MkdirTemp("", "status") // t.TempDir makes paths that are too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(path) })
	td := spiffeid.RequireTrustDomainFromString("mesh.local")
	r := &running{}
	if r.dir, err = mesh.Create(path); err != nil {
		t.Fatal(err)
	}
	if r.lock, err = mesh.Acquire(r.dir); err != nil {
		t.Fatal(err)
	}
	ca, _, err := pki.OpenOrCreate(r.dir.Path(), pki.Config{TrustDomain: td})
	if err != nil {
		t.Fatal(err)
	}
	if err := mesh.WriteFile(r.dir.Roles(), []byte(roles), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := pki.WriteBundle(r.dir.Bundle(), ca.Issuers().Bundle()); err != nil {
		t.Fatal(err)
	}
	if _, err := ca.Issuers().IssueCredential(pki.Leaf{ID: catalog.ID(td, "agent")}, r.dir.AgentCredential()); err != nil {
		t.Fatal(err)
	}
	cert, key := r.dir.OperatorCert("carol")
	if _, err := ca.Issuers().IssueFiles(pki.Leaf{ID: catalog.OperatorID(td, "carol")}, cert, key); err != nil {
		t.Fatal(err)
	}
	workloadAPI, control, err := r.dir.Sockets()
	if err != nil {
		t.Fatal(err)
	}
	serveAgent(t, agent.Config{TrustDomain: td, Bundle: ca.Issuers().Bundle(), Signer: signer{ca.Issuers()}, Socket: workloadAPI, Control: control})
	address, admin := serveAuthority(t, r.dir)
	r.file = &mesh.File{
		TrustDomain: td.Name(), PID: os.Getpid(), Started: time.Now(), WorkloadAPI: "unix://" + workloadAPI, Control: "unix://" + control,
		Bundle: r.dir.Bundle(), Roles: r.dir.Roles(), Agent: mesh.Agent{ID: catalog.ID(td, "agent").String(), PID: os.Getpid()},
		Services:  []mesh.Service{{Name: "authority", ID: catalog.ID(td, "authority").String(), Address: address, Admin: admin, PID: os.Getpid()}},
		Operators: []mesh.Operator{{Name: "carol", ID: catalog.OperatorID(td, "carol").String(), Cert: cert, Key: key, Roles: []string{}}},
	}
	r.write(t)
	return r
}

// write writes mesh.json.
func (r *running) write(t *testing.T) {
	t.Helper()
	if err := mesh.Write(r.dir, r.file); err != nil {
		t.Fatal(err)
	}
}

func serveAgent(t *testing.T, config agent.Config) {
	t.Helper()
	server, err := agent.New(config)
	if err != nil {
		t.Fatal(err)
	}
	background(t, server.Serve)
}

// serveAuthority returns the addresses of an authority.
func serveAuthority(t *testing.T, dir mesh.Dir) (address, admin string) {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	a, err := authority.Open(authority.Config{Dir: dir.Authority(), Log: log})
	if err != nil {
		t.Fatal(err)
	}
	ready := make(chan struct{})
	config := node.Config{
		Name: "authority", Listen: "127.0.0.1:0", Admin: "127.0.0.1:0", Roles: dir.Roles(), Dir: filepath.Join(dir.Path(), "data"),
		Source: a.Source(), Audit: slog.DiscardHandler, Log: log,
		Ready: func(at, adminAt string) { address, admin = at, adminAt; close(ready) },
	}
	background(t, func(ctx context.Context) error { return node.Run(ctx, config, a.Setup) })
	select {
	case <-ready:
	case <-time.After(patience):
		t.Fatalf("the authority was not ready within %s", patience)
	}
	return address, admin
}

// background runs f until the end of the test.
func background(t *testing.T, f func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- f(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("ended with: %v", err)
		}
	})
}

func mustID(t *testing.T, id string) spiffeid.ID {
	t.Helper()
	parsed, err := spiffeid.FromString(id)
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}
