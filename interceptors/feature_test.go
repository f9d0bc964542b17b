package interceptors_test

import (
	"context"
	"crypto/ecdsa"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	ledgerv1 "example.com/rolecall/gen/ledger/v1"
	"example.com/rolecall/interceptors"
	"example.com/rolecall/interceptors/internal/feature"
	"example.com/rolecall/rolecalltest"
)

// fakeFeature counts how often it is started and closed.
type fakeFeature struct {
	annotation      string
	fails           error // to start
	started, closed atomic.Int64
}

func (f *fakeFeature) Annotations() []string { return []string{f.annotation} }

func (f *fakeFeature) Start(env feature.Env) (feature.Running, error) {
	f.started.Add(1)
	if env.TrustDomain.Name() != "mesh.local" || env.Source == nil || env.NewClient == nil || env.DeniedKey == nil || env.Now == nil || env.Log == nil || env.Meters == nil || env.Describe == nil {
		return nil, errors.New("something is missing in what the guard lends")
	}
	return f, f.fails
}

func (f *fakeFeature) Close() error {
	f.closed.Add(1)
	return nil
}

func TestFeaturesAreStartedAndClosedWithTheGuard(t *testing.T) {
	t.Parallel()
	ca := rolecalltest.NewCA(t, "mesh.local")
	f := &fakeFeature{annotation: "one"}
	guard, err := interceptors.New(ca.Source(server), nil, interceptors.With(f))
	must(t, err)
	for range 2 {
		must(t, guard.Close())
	}
	if f.started.Load() != 1 || f.closed.Load() != 1 {
		t.Errorf("started %d times and closed %d times, want once each", f.started.Load(), f.closed.Load())
	}
}

func TestAFeatureThatDoesNotStartStopsTheOthers(t *testing.T) {
	t.Parallel()
	ca := rolecalltest.NewCA(t, "mesh.local")
	first, second := &fakeFeature{annotation: "one"}, &fakeFeature{annotation: "another", fails: errors.New("no disk")}
	_, err := interceptors.New(ca.Source(server), nil, interceptors.With(first), interceptors.With(second))
	if err == nil || !strings.Contains(err.Error(), "another") || !strings.Contains(err.Error(), "no disk") {
		t.Errorf("error %v, want one that names the feature and the reason", err)
	}
	if first.closed.Load() != 1 || second.closed.Load() != 0 {
		t.Errorf("closed %d and %d times, want the one that ran", first.closed.Load(), second.closed.Load())
	}
}

func TestAFeatureThatClaimsAnAnnotationAndDoesNothingAboutItIsRefused(t *testing.T) {
	t.Parallel()
	ca := rolecalltest.NewCA(t, "mesh.local")
	for _, annotation := range []string{"requires_user", "requires_user_role", "requires_proof", "exactly_once"} {
		f := &fakeFeature{annotation: annotation}
		if _, err := interceptors.New(ca.Source(server), nil, interceptors.With(f)); err == nil || !strings.Contains(err.Error(), "would enforce "+annotation) {
			t.Errorf("%s: error %v", annotation, err)
		}
		if f.closed.Load() != 1 {
			t.Errorf("%s: closed %d times, want once", annotation, f.closed.Load())
		}
	}
}

func TestTwoFeaturesForOneAnnotationAreRefused(t *testing.T) {
	t.Parallel()
	ca := rolecalltest.NewCA(t, "mesh.local")
	f := &fakeFeature{annotation: "requires_proof"}
	if _, err := interceptors.New(ca.Source(server), nil, interceptors.With(f), interceptors.With(f)); err == nil || !strings.Contains(err.Error(), "requires_proof") {
		t.Errorf("error %v", err)
	}
	if f.started.Load() != 0 {
		t.Error("a feature was started all the same")
	}
}

func TestAFeatureIsToldWhatItWillEnforce(t *testing.T) {
	t.Parallel()
	var proofs, once []feature.Method
	registerTill(t)
	m := &mesh{t: t, ca: rolecalltest.NewCA(t, "mesh.local")}
	guard := func(fails error) *interceptors.Server {
		g := m.guardWith(m.ca.Source(server), interceptors.BindingsYAML([]byte(tillRoles)), interceptors.With(&fakeProofs{serve: func(got []feature.Method) error {
			proofs = got
			return nil
		}}), interceptors.With(&fakeOnce{serve: func(got []feature.Method) error {
			once = got
			return fails
		}}))
		srv := g.NewServer()
		(&till{}).register(srv)
		return srv
	}
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	if err := guard(errors.New("no disk")).Serve(lis); err == nil || !strings.Contains(err.Error(), "no disk") || !strings.Contains(err.Error(), "exactly_once") {
		t.Errorf("error %v, want one that names the feature and the reason", err)
	}
	if diff := cmp.Diff([]feature.Method{
		{Full: follow, Proof: true, ServerStream: true},
		{Full: pay, Proof: true},
		{Full: payOnce, Proof: true, ExactlyOnce: true, Idempotent: true},
		{Full: show, Proof: true},
	}, proofs); diff != "" {
		t.Errorf("methods with requires_proof (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]feature.Method{
		{Full: open, ExactlyOnce: true, Idempotent: true},
		{Full: payOnce, Proof: true, ExactlyOnce: true, Idempotent: true},
	}, once); diff != "" {
		t.Errorf("methods with exactly_once (-want +got):\n%s", diff)
	}
}

// calling is a feature that has a part in the calls of clients, and nothing else to do.
type calling struct {
	fakeFeature
	env    feature.Env
	client feature.ClientEnv
	unary  grpc.UnaryClientInterceptor
}

func (c *calling) Start(env feature.Env) (feature.Running, error) {
	c.env = env
	return c, nil
}

func (c *calling) Client(env feature.ClientEnv) (grpc.UnaryClientInterceptor, grpc.StreamClientInterceptor) {
	c.client = env
	return c.unary, nil
}

func TestDescribeKnowsTheMethodsThatAreLinked(t *testing.T) {
	t.Parallel()
	c := &calling{}
	m := &mesh{t: t, ca: rolecalltest.NewCA(t, "mesh.local")}
	m.guardWith(m.ca.Source(reader), nil, interceptors.With(c))
	for full, want := range map[string]feature.Method{
		"/ledger.v1.LedgerService/ImportEntries": {Full: "/ledger.v1.LedgerService/ImportEntries", ClientStream: true},
		"/ledger.v1.LedgerService/NoSuch":        {},
		"/no.such.Service/Method":                {},
		"/ledger.v1.Money/Method":                {}, // a message
		"nothing":                                {},
		"":                                       {},
	} {
		if got := c.env.Describe(full); got != want {
			t.Errorf("%s: got %+v, want %+v", full, got, want)
		}
	}
	registerTill(t) // perhaps only now
	for range 2 {
		if got, want := c.env.Describe(look), (feature.Method{Full: look, Idempotent: true}); got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
}

func TestFeaturesComeInnermostAndTheOneThatSignsLast(t *testing.T) {
	t.Parallel()
	m, _ := newTill(t)
	var seen []string
	note := func(who string) grpc.UnaryClientInterceptor {
		return func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
			md, _ := metadata.FromOutgoingContext(ctx)
			seen = append(seen, fmt.Sprintf("%s: user %v, proof %v, request_id %v", who, len(md["authorization"]) > 0, len(md["rolecall-proof"]) > 0,
				req.(*ledgerv1.OpenAccountRequest).GetRequestId() != ""))
			return invoke(ctx, method, req, reply, cc, opts...)
		}
	}
	c := &calling{unary: note("feature")}
	guard := m.guardWith(m.ca.Source(clerk), nil, interceptors.With(&fakeProofs{}), interceptors.With(c))
	conn, err := guard.NewClient(m.addr, m.ca.ID(server), grpc.WithChainUnaryInterceptor(note("caller")))
	must(t, err)
	defer conn.Close()
	must(t, ask(interceptors.AsUser(timeout(t), "alice"), conn, payOnce))
	if diff := cmp.Diff([]string{"caller: user false, proof false, request_id true", "feature: user true, proof false, request_id true"}, seen); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if c.client.Server != m.ca.ID(server) {
		t.Errorf("the feature has a client of %s", c.client.Server)
	}
}

// lateReader is a connection whose end gRPC sees late.
type lateReader struct {
	net.Conn
	late func() <-chan time.Time
}

func (c lateReader) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if err != nil {
		<-c.late()
	}
	return n, err
}

// dialLate has gRPC see the end of connections when late says so.
func dialLate(late func() <-chan time.Time) grpc.DialOption {
	return grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
		raw, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
		return lateReader{raw, late}, err
	})
}

// TestCloseOldEndsConnectionsThatShowAFormerCertificate makes the next call at once: it must not go out on what was closed.
func TestCloseOldEndsConnectionsThatShowAFormerCertificate(t *testing.T) {
	t.Parallel()
	m, _ := newTill(t)
	source := m.ca.Source(clerk)
	c := &calling{}
	guard := m.guardWith(source, nil, interceptors.With(c), interceptors.With(&fakeProofs{}))
	conn, err := guard.NewClient(m.addr, m.ca.ID(server), dialLate(func() <-chan time.Time { return time.After(200 * time.Millisecond) }))
	must(t, err)
	defer conn.Close()
	if c.client.CloseOld() {
		t.Error("something was closed before anything was open")
	}
	must(t, ask(timeout(t), conn, pay))
	if c.client.CloseOld() {
		t.Error("a connection with the present certificate was closed")
	}
	source.Renew()
	if !c.client.CloseOld() {
		t.Error("the connection with the former certificate was not closed")
	}
	must(t, ask(timeout(t), conn, pay, grpc.WaitForReady(true)))
	calls := m.proofs.seen()
	if key := leafOf(t, source).PublicKey.(*ecdsa.PublicKey); key.Equal(calls[0].PeerKey) || !key.Equal(calls[1].PeerKey) {
		t.Error("the second call did not show the present certificate, or the first one did")
	}
}

// TestCloseOldWaitsOnceForAConnectionWhoseEndIsNotSeen: for the few seconds that it allows gRPC.
func TestCloseOldWaitsOnceForAConnectionWhoseEndIsNotSeen(t *testing.T) {
	t.Parallel()
	m, _ := newTill(t)
	source := m.ca.Source(clerk)
	c := &calling{}
	guard := m.guardWith(source, nil, interceptors.With(c), interceptors.With(&fakeProofs{}))
	seen := make(chan time.Time)
	conn, err := guard.NewClient(m.addr, m.ca.ID(server), dialLate(func() <-chan time.Time { return seen }))
	must(t, err)
	defer conn.Close()
	defer close(seen)
	must(t, ask(timeout(t), conn, pay))
	source.Renew()
	if !c.client.CloseOld() {
		t.Error("the connection with the former certificate was not closed")
	}
	if c.client.CloseOld() {
		t.Error("it is still on the books, and will be waited for again")
	}
}
