package interceptors_test

import (
	"context"
	"crypto/x509"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	channelz "google.golang.org/grpc/channelz/service"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/peer"

	ledgerv1 "example.com/rolecall/gen/ledger/v1"
	"example.com/rolecall/interceptors"
)

// TestOptionsOfTheCallerCannotRemoveOrPrecedeTheGuard gives NewServer what would open a plain gRPC server.
func TestOptionsOfTheCallerCannotRemoveOrPrecedeTheGuard(t *testing.T) {
	t.Parallel()
	var unary, chained, streamed, unknown atomic.Int64
	m := newMesh(t, func(c *meshConfig) {
		c.grpc = []grpc.ServerOption{
			grpc.Creds(insecure.NewCredentials()),
			grpc.UnknownServiceHandler(func(any, grpc.ServerStream) error { unknown.Add(1); return nil }),
			grpc.KeepaliveParams(keepalive.ServerParameters{}),
			grpc.UnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
				unary.Add(1)
				return next(ctx, req)
			}),
			grpc.ChainUnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
				chained.Add(1)
				if interceptors.CallerFrom(ctx).ID().IsZero() {
					t.Error("an interceptor ran before the caller was known")
				}
				return next(ctx, req)
			}),
			grpc.ChainStreamInterceptor(func(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) error {
				streamed.Add(1)
				return next(srv, stream)
			}),
		}
	})
	plain, err := grpc.NewClient(m.addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	must(t, err)
	defer plain.Close()
	handshake.check(t, balance(t, plain))

	refused(t, transfer(t, m.dial(reader)), codes.PermissionDenied, "ROLE_REQUIRED")
	refused(t, m.dial(writer).Invoke(timeout(t), "/no.Such/Method", &ledgerv1.TransferRequest{}, &ledgerv1.TransferResponse{}), codes.PermissionDenied, "METHOD_NOT_ANNOTATED")
	_, err = watchOnce(t, m.dial(nobody))
	refused(t, err, codes.PermissionDenied, "ROLE_REQUIRED")
	if unary.Load()+chained.Load()+streamed.Load()+unknown.Load() != 0 {
		t.Errorf("refused calls reached interceptors of the caller: unary %d, chained %d, stream %d, unknown service %d",
			unary.Load(), chained.Load(), streamed.Load(), unknown.Load())
	}
	must(t, transfer(t, m.dial(writer)))
	_, err = watchOnce(t, m.dial(reader))
	must(t, err)
	if unary.Load() != 1 || chained.Load() != 1 || streamed.Load() != 1 {
		t.Errorf("allowed calls passed interceptors of the caller: unary %d, chained %d, stream %d, want 1 each", unary.Load(), chained.Load(), streamed.Load())
	}
}

func TestServeRefuses(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	brief := func(c *x509.Certificate) { c.NotAfter = time.Now().Add(7 * time.Second) }
	for _, c := range []struct {
		name  string
		guard *interceptors.Guard
		opts  []grpc.ServerOption
		extra func(*interceptors.Server)
		want  string
	}{
		{"an outermost stream interceptor of the caller", m.guard, []grpc.ServerOption{grpc.StreamInterceptor(
			func(any, grpc.ServerStream, *grpc.StreamServerInfo, grpc.StreamHandler) error { return nil })}, nil, "grpc.ChainStreamInterceptor"},
		{"a service of others without a rule", m.guard, nil, func(s *interceptors.Server) { channelz.RegisterChannelzServiceToServer(s) }, `interceptors.Allow("/grpc.channelz.v1.Channelz/GetChannel"`},
		{"a guard without bindings", m.newGuard(m.source, nil), nil, nil, "BindingsFile"},
		{"a rule for a method that is not registered", m.newGuard(m.source, interceptors.BindingsYAML([]byte(roles)),
			interceptors.Allow("/no.Such/Method", interceptors.Rule{AnyWorkload: true})), nil, nil, "/no.Such/Method"},
		{"a certificate that lives too short", m.newGuard(m.ca.Source(server, brief, notBackdated), interceptors.BindingsYAML([]byte(roles))), nil, nil, "at least 15 s"},
	} {
		t.Run(c.name, func(t *testing.T) {
			srv := c.guard.NewServer(c.opts...)
			ledgerv1.RegisterLedgerServiceServer(srv, &ledger{})
			if c.extra != nil {
				c.extra(srv)
			}
			lis, err := net.Listen("tcp", "127.0.0.1:0")
			must(t, err)
			overdue := time.AfterFunc(10*time.Second, srv.Stop)
			defer overdue.Stop()
			err = srv.Serve(lis)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v, want an error that names %q", err, c.want)
			}
			if _, err := lis.Accept(); !errors.Is(err, net.ErrClosed) {
				t.Errorf("the listener is still open: %v", err)
			}
		})
	}
}

// TestAuthInfoIsTLSInfo is what gRPC's own authorization engine and many interceptors assert.
func TestAuthInfoIsTLSInfo(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	m.ledger.getBalance = func(ctx context.Context) error {
		p, _ := peer.FromContext(ctx)
		info, ok := p.AuthInfo.(credentials.TLSInfo)
		if !ok || info.SPIFFEID.String() != "spiffe://mesh.local/service/reader" || len(info.State.PeerCertificates) != 1 {
			t.Errorf("AuthInfo is %T %+v", p.AuthInfo, info.SPIFFEID)
		}
		if info.State.CurveID.String() != "X25519MLKEM768" || info.State.Version != 0x0304 {
			t.Errorf("the connection uses %s and TLS %x", info.State.CurveID, info.State.Version)
		}
		if _, ok := p.Addr.(*net.TCPAddr); !ok {
			t.Errorf("the peer's address is a %T", p.Addr)
		}
		return nil
	}
	must(t, balance(t, m.dial(reader)))
}
