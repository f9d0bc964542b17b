package rootrotation_test

import (
	"context"
	"log/slog"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"

	authorityv1 "example.com/rolecall/gen/authority/v1"
	"example.com/rolecall/interceptors"
	"example.com/rolecall/internal/certfile"
	"example.com/rolecall/internal/leaktest"
	"example.com/rolecall/internal/mesh"
	"example.com/rolecall/internal/node"
	"example.com/rolecall/internal/rootrotation"
	"example.com/rolecall/pki"
	"example.com/rolecall/services/authority"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// Lives of leaves. A root is not retired before the last certificate under it has ended, so a test that retires one takes the
// shortest that a machine can be asked to keep up with: the race detector makes opening a key ten times slower.
const (
	shortLife = pki.MinLeafLife * slowness
	longLife  = time.Hour
	// patience is how long a test waits for what should happen at once.
	patience = 10 * time.Second * slowness
)

var td = spiffeid.RequireTrustDomainFromString("mesh.local")

const roles = `trustDomain: mesh.local
bindings:
  - role: authority.requester
    members: [spiffe://mesh.local/service/agent]
  - role: authority.admin
    members: [spiffe://mesh.local/operator/alice]
  - role: rolecall.admin
    members: [spiffe://mesh.local/operator/alice]
`

// world is an authority and a service in this process, on the files of a folder, with an operator's files and an agent that
// reports.
type world struct {
	t      *testing.T
	dir    mesh.Dir
	life   time.Duration
	ca     *pki.CA
	mesh   *rootrotation.Mesh
	ledger *stubborn
	cert   string
	key    string
	agent  *pki.Source
	silent atomic.Bool // the agent reports nothing
}

// stubborn is the identity of a service that may be deaf to changes of the bundle.
type stubborn struct {
	*pki.Source
	deaf atomic.Pointer[x509bundle.Bundle] // what it goes on trusting; nil: it listens
}

func (s *stubborn) GetX509BundleForTrustDomain(td spiffeid.TrustDomain) (*x509bundle.Bundle, error) {
	if old := s.deaf.Load(); old != nil {
		return old.GetX509BundleForTrustDomain(td)
	}
	return s.Source.GetX509BundleForTrustDomain(td)
}

func newWorld(t *testing.T, life time.Duration) *world {
	t.Helper()
	dir, err := mesh.Create(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, dir: dir, life: life}
	if w.ca, _, err = pki.OpenOrCreate(dir.Path(), pki.Config{TrustDomain: td, IssuerLife: 6 * life, LeafLife: life}); err != nil {
		t.Fatal(err)
	}
	if err := mesh.WriteFile(dir.Roles(), []byte(roles), 0o600); err != nil {
		t.Fatal(err)
	}
	issuers := w.ca.Issuers()
	w.ledger = &stubborn{Source: w.source("/service/ledger", "/service/agent")}
	w.agent = w.source("/service/agent", "/service/agent")
	w.cert, w.key = dir.OperatorCert("alice")
	w.renewAlice()
	if err := pki.WriteBundle(dir.Bundle(), issuers.Bundle()); err != nil {
		t.Fatal(err)
	}
	source, err := certfile.Open(w.cert, w.key, dir.Bundle())
	if err != nil {
		t.Fatal(err)
	}
	a, err := authority.Open(authority.Config{Dir: dir.Authority(), LeafLife: life, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	authorityAt := w.serve("authority", a.Source(), a.Setup)
	ledgerAt := w.serve("ledger", w.ledger, func(context.Context, *node.Node) error { return nil })
	at := rootrotation.Peer{Name: "authority", Target: "passthrough:///" + authorityAt, ID: path("/service/authority")}
	w.mesh = &rootrotation.Mesh{Source: source, Authority: at, Bundles: map[spiffeid.ID]string{path("/operator/alice"): dir.Bundle()},
		Services: []rootrotation.Peer{at, {Name: "ledger", Target: "dns:///" + ledgerAt, ID: path("/service/ledger")}}}
	w.background(w.chores)
	return w
}

func path(p string) spiffeid.ID { return spiffeid.RequireFromPath(td, p) }

// source is an identity that is signed here, as if the requester had asked for it.
func (w *world) source(p, requester string) *pki.Source {
	w.t.Helper()
	s, err := pki.NewSource(w.ca.Issuers(), pki.Leaf{ID: path(p), Life: w.life, Requester: path(requester).String()})
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

func (w *world) renewAlice() {
	if _, err := w.ca.Issuers().IssueFiles(pki.Leaf{ID: path("/operator/alice"), Life: w.life}, w.cert, w.key); err != nil {
		w.t.Error(err)
	}
}

// chores are what `rolecall up` and an agent do: the folder is read again, the files follow, the agent reports.
func (w *world) chores(ctx context.Context) error {
	guard, err := interceptors.New(w.agent, nil, interceptors.Audit(slog.DiscardHandler), interceptors.Logger(slog.New(slog.DiscardHandler)))
	if err != nil {
		return err
	}
	defer guard.Close()
	conn, err := guard.NewClient(w.mesh.Authority.Target, w.mesh.Authority.ID)
	if err != nil {
		return err
	}
	defer conn.Close()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	renew := time.Now().Add(w.life / 2)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if _, err := w.ca.Rotate(); err != nil {
			return err
		}
		if err := pki.WriteBundle(w.dir.Bundle(), w.ca.Issuers().Bundle()); err != nil {
			return err
		}
		if time.Now().After(renew) {
			w.renewAlice()
			renew = time.Now().Add(w.life / 2)
		}
		if !w.silent.Load() {
			_, _ = authorityv1.NewAuthorityServiceClient(conn).ReportTrust(ctx, w.report())
		}
	}
}

func (w *world) report() *authorityv1.ReportTrustRequest {
	digest := pki.BundleDigest(w.ca.Issuers().Bundle().X509Authorities())
	r := &authorityv1.ReportTrustRequest{Digest: digest[:], Sequence: w.ca.Issuers().Sequence(),
		HandedOut: []*authorityv1.HandedOut{{SpiffeId: path("/service/ledger").String(), Digest: digest[:], Streams: 1}}}
	if old := w.ledger.deaf.Load(); old != nil {
		sum := pki.BundleDigest(old.X509Authorities())
		r.HandedOut[0].Digest = sum[:]
	}
	return r
}

// serve returns the address of a service.
func (w *world) serve(name string, source interceptors.Source, setup func(context.Context, *node.Node) error) (address string) {
	w.t.Helper()
	ready := make(chan struct{})
	config := node.Config{
		Name: name, Listen: "127.0.0.1:0", Roles: w.dir.Roles(), Dir: filepath.Join(w.dir.Path(), "data"), Source: source,
		Audit: slog.DiscardHandler, Log: slog.New(slog.DiscardHandler), Grace: time.Second,
		Ready: func(at, _ string) { address = at; close(ready) },
	}
	w.background(func(ctx context.Context) error { return node.Run(ctx, config, setup) })
	select {
	case <-ready:
	case <-time.After(patience):
		w.t.Fatalf("%s was not ready within %s", name, patience)
	}
	return address
}

// background runs f until the end of the test.
func (w *world) background(f func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- f(ctx) }()
	w.t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			w.t.Errorf("ended with: %v", err)
		}
	})
}

// svid returns what the ledger shows now.
func (w *world) svid() *x509svid.SVID {
	w.t.Helper()
	svid, err := w.ledger.GetX509SVID()
	if err != nil {
		w.t.Fatal(err)
	}
	return svid
}

// waitFor waits for a condition.
func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	began := time.Now()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if time.Since(began) > patience {
			t.Fatalf("not within %s: %s", patience, what)
		}
		<-tick.C
	}
	t.Logf("%s after %s", what, time.Since(began).Round(10*time.Millisecond))
}
