package interceptors_test

import (
	"context"
	"crypto/x509"
	"log/slog"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"example.com/rolecall/interceptors"
	"example.com/rolecall/interceptors/internal/feature"
	"example.com/rolecall/rolecalltest"
)

func TestClientsRefuse(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	guard := m.newGuard(m.ca.Source(reader), nil, interceptors.Audit(jsonTo(m.audit)))
	t.Run("a server that is another workload", func(t *testing.T) {
		conn, err := guard.NewClient(m.addr, m.ca.ID("/service/other"))
		must(t, err)
		defer conn.Close()
		handshake.check(t, balance(t, conn))
		m.audit.find(t, map[string]any{"event": "dial", "reason": "wrong_server"})
	})
	t.Run("an ID without a path", func(t *testing.T) {
		if _, err := guard.NewClient(m.addr, m.ca.TrustDomain().ID()); err == nil {
			t.Fatal("NewClient took it")
		}
	})
	t.Run("a server that the bindings deny", func(t *testing.T) {
		denying := m.newGuard(m.ca.Source(reader), interceptors.BindingsYAML([]byte(roles+"denied:\n  - member: spiffe://mesh.local/service/ledger\n")), interceptors.Audit(jsonTo(m.audit)))
		conn, err := denying.NewClient(m.addr, m.ca.ID(server))
		must(t, err)
		defer conn.Close()
		handshake.check(t, balance(t, conn))
		m.audit.find(t, map[string]any{"event": "dial", "reason": "denied"})
	})
}

func TestClientsGoOnCheckingTheServer(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	t.Run("its CA leaves the bundle", func(t *testing.T) {
		t.Parallel()
		source := m.ca.Source(reader)
		stream := watch(t, m.dialAs(source))
		source.Trust(rolecalltest.NewCA(t, "mesh.local"))
		_, err := stream.Recv()
		if status.Code(err) != codes.Unavailable {
			t.Fatalf("the stream ended with %v", err)
		}
	})
	t.Run("its certificate expires", func(t *testing.T) {
		t.Parallel()
		m := newMesh(t)
		// The server was made with a long certificate and shows a short one.
		cert, key := m.ca.Issue(server, short)
		m.source.Use(key, cert)
		stream := watch(t, m.dial(reader))
		m.source.Renew()
		_, err := stream.Recv()
		if status.Code(err) != codes.Unavailable {
			t.Fatalf("the stream ended with %v", err)
		}
	})
}

// TestAClientWithANewerCertificateTriesOnceMore has a client whose certificate expires while its connection is open.
func TestAClientWithANewerCertificateTriesOnceMore(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	source := m.ca.Source(reader, short)
	svid, err := source.GetX509SVID()
	must(t, err)
	conn := m.dialAs(source)
	must(t, balance(t, conn))
	source.Renew()
	end := svid.Certificates[0].NotAfter
	<-time.After(time.Until(end.Add(-time.Second)))
	calls := 0
	for calls == 0 || time.Now().Before(end.Add(time.Second)) {
		calls++
		if err := balance(t, conn); err != nil {
			t.Fatalf("call %d: %v", calls, err)
		}
	}
	t.Logf("%d calls, none failed", calls)
}

// TestAClientRepeatsOnlyWhatItsOwnServerRefused has a handler pass on what a server said that it called itself: by then
// it may have done something that must not be done twice.
func TestAClientRepeatsOnlyWhatItsOwnServerRefused(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, method string
		runs         int64
	}{
		{"the refusal of the method that was called", getBalance, 2},
		{"the refusal of another method, passed on", "/bank.v1.BankService/Pay", 1},
		{"what Require says once the certificate has expired, which names no method", "", 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var wall clock
			m := newMesh(t)
			lasting := func(c *x509.Certificate) { c.NotAfter = time.Now().Add(12 * time.Hour) }
			m.source.Renew(lasting)
			m.ledger.getBalance = func(context.Context) error {
				s, err := status.New(codes.Unauthenticated, "").WithDetails(&errdetails.ErrorInfo{
					Domain: "rolecall", Reason: "PEER_CERTIFICATE_EXPIRED", Metadata: map[string]string{"method": c.method},
				})
				must(t, err)
				return s.Err()
			}
			source := m.ca.Source(reader)
			guard := m.newGuard(source, nil, interceptors.Audit(slog.DiscardHandler), interceptors.WithClock(wall.now))
			conn, err := guard.NewClient(m.addr, m.ca.ID(server))
			must(t, err)
			defer conn.Close()
			connected(t, conn)
			source.Renew(lasting)
			wall.forward(2 * time.Hour) // what was shown on the connection has expired for the client
			refused(t, balance(t, conn), codes.Unauthenticated, "PEER_CERTIFICATE_EXPIRED")
			if n := m.ledger.reached.Load(); n != c.runs {
				t.Errorf("one call, the handler ran %d times, want %d", n, c.runs)
			}
		})
	}
}

// closing is a feature whose clients have lost their connection by the time that they hand an error on.
type closing struct {
	*fakeFeature
	t *testing.T
}

func (c *closing) Start(feature.Env) (feature.Running, error) { return c, nil }

func (c *closing) Client(env feature.ClientEnv) (grpc.UnaryClientInterceptor, grpc.StreamClientInterceptor) {
	return func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		err := invoke(ctx, method, req, reply, cc, opts...)
		if err != nil {
			eventually(c.t, "end of the connection", func() bool { return !env.CloseOld() })
		}
		return err
	}, nil
}

// The server closes the connection soon after its refusal, and another call that was refused does so at once.
func TestACallIsMadeOnceMoreAlsoWhereTheConnectionIsGone(t *testing.T) {
	t.Parallel()
	var wall clock
	m := newMesh(t)
	lasting := func(c *x509.Certificate) { c.NotAfter = time.Now().Add(12 * time.Hour) }
	m.source.Renew(lasting)
	m.ledger.getBalance = func(context.Context) error {
		if m.ledger.reached.Load() > 1 {
			return nil
		}
		return feature.Refusal{Code: codes.Unauthenticated, Reason: "PEER_CERTIFICATE_EXPIRED"}.Err(map[string]string{"method": getBalance})
	}
	source := m.ca.Source(reader)
	guard := m.guardWith(source, nil, interceptors.Audit(slog.DiscardHandler), interceptors.WithClock(wall.now),
		interceptors.With(&closing{&fakeFeature{annotation: "one"}, t}))
	conn, err := guard.NewClient(m.addr, m.ca.ID(server))
	must(t, err)
	defer conn.Close()
	connected(t, conn)
	source.Renew(lasting)
	wall.forward(2 * time.Hour)
	must(t, balance(t, conn))
	if n := m.ledger.reached.Load(); n != 2 {
		t.Errorf("one call, the handler ran %d times, want 2", n)
	}
}

func TestAGuardThatDoesNotSignSaysWhatItLacks(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	guard := m.guardWith(m.ca.Source(writer), nil, interceptors.Audit(slog.DiscardHandler))
	conn, err := guard.NewClient(m.addr, m.ca.ID(server))
	must(t, err)
	defer conn.Close()
	err = transfer(t, conn)
	refused(t, err, codes.Unauthenticated, "PROOF_REQUIRED")
	if !strings.Contains(err.Error(), "interceptors.With(proof.New(...))") {
		t.Errorf("got %v, want it to say what to add", err)
	}
}
