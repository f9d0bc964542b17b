//go:build linux || darwin

package agentd_test

import (
	"context"
	"crypto/x509"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/jwtsvid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"

	"example.com/rolecall/internal/agentd"
	"example.com/rolecall/internal/leaktest"
	"example.com/rolecall/internal/node"
	"example.com/rolecall/internal/node/nodetest"
	"example.com/rolecall/pki"
	"example.com/rolecall/pki/agent"
	"example.com/rolecall/rolecalltest"
	"example.com/rolecall/services/authority"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

var domain = spiffeid.RequireTrustDomainFromString("mesh.local")

var authorityID = spiffeid.RequireFromPath(domain, "/service/authority")

const roles = `
trustDomain: mesh.local
bindings:
  - role: authority.requester
    members: [spiffe://mesh.local/service/agent]
`

// leafLife is short, as renewals are waited for, and long enough that no machine is too busy to renew in the second half of it.
const leafLife = 30 * time.Second

// patience is how long a test waits for what should happen at once, or at half of leafLife: long, for a machine that does
// much else.
const patience = time.Minute

// mesh is a certificate authority on disk and an authority that serves: one for all tests, since making it takes long on
// purpose.
type mesh struct {
	ca     *pki.CA
	dir    string
	life   time.Duration // of leaves
	target string
}

func start(t *testing.T) *mesh {
	t.Helper()
	dir := t.TempDir()
	ca, _, err := pki.OpenOrCreate(dir, pki.Config{TrustDomain: domain})
	if err != nil {
		t.Fatal(err)
	}
	m := &mesh{ca: ca, dir: dir}
	return m.serve(t, leafLife)
}

// serve is the same mesh with another authority that serves, which issues leaves of another life.
func (at *mesh) serve(t *testing.T, life time.Duration) *mesh {
	t.Helper()
	a, err := authority.Open(authority.Config{Dir: filepath.Join(at.dir, pki.AuthorityDir), LeafLife: life})
	if err != nil {
		t.Fatal(err)
	}
	service := nodetest.New(t, roles).Start(t, "authority", "", a.Setup, func(c *node.Config) { c.Source, c.ID = a.Source(), authorityID })
	return &mesh{at.ca, at.dir, life, "passthrough:///" + service.Addr}
}

// machine is where an agent runs, with files of its own.
type machine struct {
	*mesh
	config agentd.Config
}

func (at *mesh) machine(t *testing.T) *machine {
	t.Helper()
	dir, err := os.MkdirTemp("", "agentd") // t.TempDir makes paths that are too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	on := &machine{at, agentd.Config{
		TrustDomain: domain, Credential: filepath.Join(dir, "agent.pem"), Bundle: filepath.Join(dir, "bundle.pem"),
		Authority: at.target, AuthorityID: authorityID,
		Socket: filepath.Join(dir, "agent.sock"), Control: filepath.Join(dir, "control.sock"),
		Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
	}}
	if err := pki.WriteBundle(on.config.Bundle, at.ca.Issuers().Bundle()); err != nil {
		t.Fatal(err)
	}
	on.issueCredential(t)
	return on
}

// issueCredential issues the agent's own certificate.
func (m *machine) issueCredential(t *testing.T) {
	t.Helper()
	leaf := pki.Leaf{ID: spiffeid.RequireFromPath(domain, "/service/agent"), Life: m.life}
	if _, err := m.ca.Issuers().IssueCredential(leaf, m.config.Credential); err != nil {
		t.Fatal(err)
	}
}

// run runs the agent until the test is over and registers this process as the ledger.
func (m *machine) run(t *testing.T) {
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
	case <-time.After(patience):
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
		if time.Since(began) > patience {
			t.Fatalf("%s: not after %s", what, patience)
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Logf("%s: after %s", what, time.Since(began).Round(time.Millisecond))
}

func TestAnAgentAtTheAuthority(t *testing.T) {
	t.Parallel()
	m := start(t)
	t.Run("agents", func(t *testing.T) {
		t.Run("the agent renews itself and its workloads", m.renewals)
		t.Run("an agent that was off for too long goes on with a new file", m.afterAMonth)
		t.Run("JWT-SVIDs are signed", m.jwtSVIDs)
	})
	t.Run("a revoked issuer has every certificate under it replaced at once", m.revocation) // last: for all agents
}

func (at *mesh) renewals(t *testing.T) {
	t.Parallel()
	m := at.machine(t)
	m.run(t)
	ctx := nodetest.Context(t)
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

func (at *mesh) afterAMonth(t *testing.T) {
	t.Parallel()
	m := at.machine(t)
	expired, key := rolecalltest.NewCA(t, domain.Name()).Issue("/service/agent", func(c *x509.Certificate) {
		c.NotBefore, c.NotAfter = time.Now().Add(-48*time.Hour), time.Now().Add(-24*time.Hour)
	})
	if err := pki.WriteCredential(m.config.Credential, []*x509.Certificate{expired}, key); err != nil {
		t.Fatal(err)
	}
	m.run(t)
	list, err := agent.List(t.Context(), m.config.Control)
	if err != nil || len(list) != 1 || !list[0].NotAfter.IsZero() {
		t.Fatalf("with an expired certificate: %+v, %v; want a registration without a certificate", list, err)
	}
	m.issueCredential(t)
	eventually(t, "a certificate of the workload", func() bool {
		list, err := agent.List(t.Context(), m.config.Control)
		return err == nil && len(list) == 1 && time.Until(list[0].NotAfter) > 0
	})
}

func (at *mesh) jwtSVIDs(t *testing.T) {
	t.Parallel()
	m := at.machine(t)
	m.run(t)
	ctx := nodetest.Context(t)
	source, err := workloadapi.NewJWTSource(ctx, workloadapi.WithClientOptions(workloadapi.WithAddr("unix://"+m.config.Socket)))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = source.Close() }()
	token, err := source.FetchJWTSVID(ctx, jwtsvid.Params{Audience: "orders"})
	if err != nil {
		t.Fatal(err)
	}
	valid, err := jwtsvid.ParseAndValidate(token.Marshal(), source, []string{"orders"})
	if err != nil || valid.ID.Path() != "/service/ledger" {
		t.Errorf("the token is %v (error %v)", valid, err)
	}
	checked, err := workloadapi.ValidateJWTSVID(ctx, token.Marshal(), "orders", workloadapi.WithAddr("unix://"+m.config.Socket))
	if err != nil || checked.ID.Path() != "/service/ledger" {
		t.Errorf("ValidateJWTSVID: %v, %v", checked, err)
	}
}

func (at *mesh) revocation(t *testing.T) {
	m := at.serve(t, time.Hour).machine(t) // nothing is renewed because half of its life is over
	m.run(t)
	ctx := nodetest.Context(t)
	source, err := workloadapi.NewX509Source(ctx, workloadapi.WithClientOptions(workloadapi.WithAddr("unix://"+m.config.Socket)))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = source.Close() }()
	first, err := source.GetX509SVID()
	if err != nil {
		t.Fatal(err)
	}
	issuers, root := m.ca.Issuers(), m.ca.Root()
	csr, generation, err := issuers.RequestIssuer()
	if err != nil {
		t.Fatal(err)
	}
	next, err := root.SignIssuerCSR(csr, pki.DefaultIssuerLife)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := issuers.ImportIssuer(next); err != nil {
		t.Fatal(err)
	}
	if _, err := issuers.Activate(generation); err != nil {
		t.Fatal(err)
	}
	if _, err := issuers.Revoke(generation-1, "stolen in a test"); err != nil {
		t.Fatal(err)
	}
	under := func(chain []*x509.Certificate) bool { return len(chain) > 1 && chain[1].Equal(next) }
	eventually(t, "a certificate of the workload under the next issuer", func() bool {
		now, err := source.GetX509SVID()
		return err == nil && !now.Certificates[0].Equal(first.Certificates[0]) && under(now.Certificates)
	})
	eventually(t, "a certificate of the agent under the next issuer", func() bool {
		now, err := pki.ReadCredential(m.config.Credential)
		return err == nil && under(now.Certificates)
	})
}
