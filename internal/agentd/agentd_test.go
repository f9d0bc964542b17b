//go:build linux || darwin

package agentd_test

import (
	"context"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
	"go.uber.org/goleak"

	"example.com/rolecall/internal/agentd"
	"example.com/rolecall/internal/node"
	"example.com/rolecall/internal/node/nodetest"
	"example.com/rolecall/pki"
	"example.com/rolecall/pki/agent"
	"example.com/rolecall/services/authority"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var domain = spiffeid.RequireTrustDomainFromString("mesh.local")

const roles = `
trustDomain: mesh.local
bindings:
  - role: authority.requester
    members: [spiffe://mesh.local/service/agent]
`

const leafLife = 15 * time.Second

// mesh is a certificate authority on disk and an authority that serves.
type mesh struct {
	ca     *pki.CA
	config agentd.Config
}

func start(t *testing.T, born time.Time) *mesh {
	t.Helper()
	dir, err := os.MkdirTemp("", "agentd") // t.TempDir makes paths that are too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	ca, _, err := pki.OpenOrCreate(dir, pki.Config{TrustDomain: domain, Now: func() time.Time { return born }})
	if err != nil {
		t.Fatal(err)
	}
	m := &mesh{ca: ca, config: agentd.Config{
		TrustDomain: domain, Credential: filepath.Join(dir, "agent.pem"), Bundle: filepath.Join(dir, pki.AuthorityDir, "bundle.pem"),
		AuthorityID: spiffeid.RequireFromPath(domain, "/service/authority"),
		Socket:      filepath.Join(dir, "agent.sock"), Control: filepath.Join(dir, "control.sock"),
		Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
	}}
	m.issueCredential(t)
	a, err := authority.Open(authority.Config{Dir: filepath.Join(dir, pki.AuthorityDir), LeafLife: leafLife})
	if err != nil {
		t.Fatal(err)
	}
	service := nodetest.New(t, roles).Start(t, "authority", "", a.Setup, func(c *node.Config) { c.Source, c.ID = a.Source(), m.config.AuthorityID })
	m.config.Authority = "passthrough:///" + service.Addr
	return m
}

// issueCredential issues the agent's own certificate by the CA's clock.
func (m *mesh) issueCredential(t *testing.T) {
	t.Helper()
	leaf := pki.Leaf{ID: spiffeid.RequireFromPath(domain, "/service/agent"), Life: leafLife}
	if _, err := m.ca.Issuers().IssueCredential(leaf, m.config.Credential); err != nil {
		t.Fatal(err)
	}
}

// run runs the agent until the test is over and registers this process as the ledger.
func (m *mesh) run(t *testing.T) {
	t.Helper()
	ready := make(chan struct{})
	m.config.Ready = func() { close(ready) }
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := agentd.Run(ctx, m.config); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(func() { cancel(); running.Wait() })
	select {
	case <-ready:
	case <-time.After(nodetest.Patience):
		t.Fatal("the agent is not ready")
	}
	registered, err := agent.Register(t.Context(), m.config.Control, agent.Registration{
		ID: spiffeid.RequireFromPath(domain, "/service/ledger"), PID: os.Getpid(),
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = registered.Close()
		<-registered.Gone()
	})
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	began := time.Now()
	for !holds() {
		if time.Since(began) > nodetest.Patience {
			t.Fatalf("%s: not after %s", what, nodetest.Patience)
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Logf("%s: after %s", what, time.Since(began).Round(time.Millisecond))
}

func TestTheAgentRenewsItselfAndItsWorkloadsAtTheAuthority(t *testing.T) {
	t.Parallel()
	m := start(t, time.Now())
	m.run(t)
	ctx, cancel := context.WithTimeout(t.Context(), nodetest.Patience)
	defer cancel()
	source, err := workloadapi.NewX509Source(ctx, workloadapi.WithClientOptions(workloadapi.WithAddr("unix://"+m.config.Socket)))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = source.Close() }()
	first, err := source.GetX509SVID()
	if err != nil || first.ID.Path() != "/service/ledger" {
		t.Fatalf("got %v, %v", first, err)
	}
	own, err := pki.ReadCredential(m.config.Credential)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "a new certificate of the agent in its file", func() bool {
		now, err := pki.ReadCredential(m.config.Credential)
		return err == nil && now.Certificates[0].SerialNumber.Cmp(own.Certificates[0].SerialNumber) != 0
	})
	eventually(t, "a new certificate of the workload", func() bool {
		now, err := source.GetX509SVID()
		return err == nil && now.Certificates[0].SerialNumber.Cmp(first.Certificates[0].SerialNumber) != 0
	})
}

func TestAnAgentThatWasOffForTooLongGoesOnWithANewFile(t *testing.T) {
	t.Parallel()
	m := start(t, time.Now().Add(-48*time.Hour)) // by whose clock the agent's certificate is issued
	m.run(t)
	list, err := agent.List(t.Context(), m.config.Control)
	if err != nil || len(list) != 1 || !list[0].NotAfter.IsZero() {
		t.Fatalf("with an expired certificate: %+v, %v; want a registration without a certificate", list, err)
	}
	issuers, err := pki.OpenIssuers(filepath.Dir(m.config.Bundle), nil)
	if err != nil {
		t.Fatal(err)
	}
	leaf := pki.Leaf{ID: spiffeid.RequireFromPath(domain, "/service/agent"), Life: leafLife}
	if _, err := issuers.IssueCredential(leaf, m.config.Credential); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a certificate of the workload", func() bool {
		list, err := agent.List(t.Context(), m.config.Control)
		return err == nil && len(list) == 1 && time.Until(list[0].NotAfter) > 0
	})
}

func TestAnAgentThatCannotStartSaysWhy(t *testing.T) {
	t.Parallel()
	m := start(t, time.Now())
	other := m.config
	other.TrustDomain = spiffeid.RequireTrustDomainFromString("other.local")
	missing := m.config
	missing.Credential = filepath.Join(t.TempDir(), "none.pem")
	for name, c := range map[string]agentd.Config{"another trust domain": other, "no credential": missing} {
		if err := agentd.Run(t.Context(), c); err == nil {
			t.Errorf("%s: Run ended without an error", name)
		} else {
			t.Logf("%s: %v", name, err)
		}
	}
}
