package node_test

import (
	"context"
	"crypto/x509"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	usersv1 "example.com/rolecall/gen/users/v1"
	"example.com/rolecall/internal/node"
	"example.com/rolecall/internal/node/nodetest"
)

func expired(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Second) }

// workloadAPI is an independent Workload API: it offers certificates for the given paths, as one agent of a cluster does.
type workloadAPI struct {
	workload.UnimplementedSpiffeWorkloadAPIServer
	mesh  *nodetest.Mesh
	paths []string
	asked func() // each time
}

func (w *workloadAPI) FetchX509SVID(_ *workload.X509SVIDRequest, stream grpc.ServerStreamingServer[workload.X509SVIDResponse]) error {
	w.asked()
	if len(w.paths) == 0 {
		return status.Error(codes.PermissionDenied, "no identity issued")
	}
	answer := &workload.X509SVIDResponse{}
	for _, path := range w.paths {
		cert, key := w.mesh.CA.Issue(path)
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			return err
		}
		answer.Svids = append(answer.Svids, &workload.X509SVID{
			SpiffeId: w.mesh.CA.ID(path).String(), X509Svid: cert.Raw, X509SvidKey: der, Bundle: w.mesh.CA.Root().Raw,
		})
	}
	if err := stream.Send(answer); err != nil {
		return err
	}
	<-stream.Context().Done()
	return nil
}

// serveWorkloadAPI sets SPIFFE_ENDPOINT_SOCKET to a Workload API that offers these paths.
func serveWorkloadAPI(t *testing.T, mesh *nodetest.Mesh, asked func(), paths ...string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "node") // t.TempDir makes paths that are too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket := filepath.Join(dir, "w.sock")
	lis, err := net.Listen("unix", socket)
	if err != nil {
		t.Skipf("no Unix sockets here: %v", err)
	}
	server := grpc.NewServer()
	workload.RegisterSpiffeWorkloadAPIServer(server, &workloadAPI{mesh: mesh, paths: paths, asked: asked})
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(lis)
	}()
	t.Cleanup(func() {
		server.Stop()
		<-done
	})
	t.Setenv("SPIFFE_ENDPOINT_SOCKET", "unix://"+socket)
}

func TestAServiceRunsOnAnotherWorkloadAPI(t *testing.T) {
	mesh := nodetest.New(t, roles)
	for name, tc := range map[string]struct {
		offered []string
		id      spiffeid.ID
		want    string
	}{
		"the ID that is named":      {[]string{"/service/users", "/ns/shop/sa/other", "/ns/shop/sa/users"}, mesh.CA.ID("/ns/shop/sa/users"), "/ns/shop/sa/users"},
		"the only ID":               {[]string{"/ns/shop/sa/users"}, spiffeid.ID{}, "/ns/shop/sa/users"},
		"the ID of its own service": {[]string{"/service/other", "/service/users"}, spiffeid.ID{}, "/service/users"},
	} {
		t.Run(name, func(t *testing.T) {
			serveWorkloadAPI(t, mesh, func() {}, tc.offered...)
			s := newSlow()
			close(s.end)
			service := mesh.Start(t, "users", "", s.setup, func(cfg *node.Config) { cfg.Source, cfg.ID = nil, tc.id })
			service.ID = mesh.CA.ID(tc.want) // what the client demands of the server
			client := usersv1.NewUsersServiceClient(mesh.Client(t, "/operator/bob", service))
			if _, err := client.Get(nodetest.Context(t), &usersv1.GetRequest{}); err != nil {
				t.Errorf("get: %v", err)
			}
		})
	}
}

func TestWithoutACertificateTheErrorSaysWhatToDo(t *testing.T) {
	mesh := nodetest.New(t, roles)
	run := func(ctx context.Context, t *testing.T, says ...string) {
		t.Helper()
		err := node.Run(ctx, node.Config{
			Name: "users", ID: mesh.CA.ID("/service/users"), Listen: "127.0.0.1:0", Roles: mesh.Roles, Log: slog.New(slog.DiscardHandler),
		}, newSlow().setup)
		for _, want := range says {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v, want an error that says %q", err, want)
			}
		}
	}
	t.Run("no socket is named", func(t *testing.T) {
		t.Setenv("SPIFFE_ENDPOINT_SOCKET", "")
		run(nodetest.Context(t), t, "SPIFFE_ENDPOINT_SOCKET is not set")
	})
	t.Run("the name of the socket is wrong", func(t *testing.T) {
		t.Setenv("SPIFFE_ENDPOINT_SOCKET", "http://agent")
		run(nodetest.Context(t), t, "SPIFFE_ENDPOINT_SOCKET=http://agent")
	})
	t.Run("other identities are offered", func(t *testing.T) {
		serveWorkloadAPI(t, mesh, func() {}, "/service/ledger", "/service/orders")
		run(nodetest.Context(t), t, "does not offer spiffe://mesh.local/service/users", "spiffe://mesh.local/service/ledger", "spiffe://mesh.local/service/orders")
	})
	t.Run("the service is stopped while it waits", func(t *testing.T) {
		ctx, stop := context.WithCancel(nodetest.Context(t))
		serveWorkloadAPI(t, mesh, stop)
		run(ctx, t, "stopped while waiting for a certificate")
	})
}
