package node_test

import (
	"context"
	"errors"
	"net"
	"os"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	channelzv1 "google.golang.org/grpc/channelz/grpc_channelz_v1"
	"google.golang.org/grpc/codes"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"

	ledgerv1 "example.com/rolecall/gen/ledger/v1"
	usersv1 "example.com/rolecall/gen/users/v1"
	"example.com/rolecall/interceptors/exactlyonce"
	"example.com/rolecall/interceptors/usertoken"
	"example.com/rolecall/internal/leaktest"
	"example.com/rolecall/internal/node"
	"example.com/rolecall/internal/node/nodetest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

const roles = `
trustDomain: mesh.local
bindings:
  - role: users.reader
    members: [spiffe://mesh.local/operator/bob]
  - role: rolecall.reflector
    members: [spiffe://mesh.local/operator/bob]
`

// slow is a service whose Get begins, and ends when it is told to.
type slow struct {
	usersv1.UnimplementedUsersServiceServer
	begun, end chan struct{}
}

func (s *slow) Get(ctx context.Context, _ *usersv1.GetRequest) (*usersv1.GetResponse, error) {
	close(s.begun)
	select {
	case <-s.end:
		return &usersv1.GetResponse{User: &usersv1.User{Username: "dave"}}, nil
	case <-ctx.Done():
		return nil, status.FromContextError(ctx.Err()).Err()
	}
}

func newSlow() *slow { return &slow{begun: make(chan struct{}), end: make(chan struct{})} }

// tables are those of a service that has none.
var tables = fstest.MapFS{"migrations/0001_none.sql": {Data: []byte("-- +goose Up\nSELECT 1;\n")}}

func (s *slow) setup(ctx context.Context, n *node.Node) error {
	if _, err := n.OpenDB(ctx, tables); err != nil {
		return err
	}
	usersv1.RegisterUsersServiceServer(n.Server, s)
	return nil
}

func TestAStopLetsTheCallInFlightEnd(t *testing.T) {
	t.Parallel()
	s := newSlow()
	mesh := nodetest.New(t, roles)
	service := mesh.Start(t, "users", "", s.setup)
	conn := mesh.Client(t, "/operator/bob", service)
	answered := make(chan error, 1)
	go func() {
		_, err := usersv1.NewUsersServiceClient(conn).Get(nodetest.Context(t), &usersv1.GetRequest{})
		answered <- err
	}()
	<-s.begun
	service.Begin()
	began := time.Now()
	for { // the port is closed to new connections while the call still runs
		c, err := net.DialTimeout("tcp", service.Addr, time.Second)
		if err != nil {
			break
		}
		_ = c.Close()
		if time.Since(began) > nodetest.Patience {
			t.Fatal("the port is still open")
		}
	}
	t.Logf("closed to new connections after %s", time.Since(began))
	select {
	case err := <-answered:
		t.Fatalf("the call in flight ended with the stop: %v", err)
	default:
	}
	close(s.end)
	if err := <-answered; err != nil {
		t.Errorf("the call in flight: %v", err)
	}
	if err := service.Stop(); err != nil {
		t.Errorf("stop: %v", err)
	}
}

func TestAStopBreaksOffWhatTakesLongerThanItsGrace(t *testing.T) {
	t.Parallel()
	s := newSlow()
	mesh := nodetest.New(t, roles)
	service := mesh.Start(t, "users", "", s.setup, func(cfg *node.Config) { cfg.Grace = 50 * time.Millisecond })
	conn := mesh.Client(t, "/operator/bob", service)
	answered := make(chan error, 1)
	go func() {
		_, err := usersv1.NewUsersServiceClient(conn).Get(nodetest.Context(t), &usersv1.GetRequest{})
		answered <- err
	}()
	<-s.begun
	if err := service.Stop(); err != nil {
		t.Errorf("stop: %v", err)
	}
	if err := <-answered; err == nil {
		t.Error("the call that never ends was answered")
	}
}

func TestHealthIsServingUntilTheStop(t *testing.T) {
	t.Parallel()
	mesh := nodetest.New(t, roles)
	service := mesh.Start(t, "users", "", newSlow().setup)
	// carol holds no role: health is for any workload.
	health := healthv1.NewHealthClient(mesh.Client(t, "/operator/carol", service))
	for _, name := range []string{"", "users.v1.UsersService"} {
		answer, err := health.Check(nodetest.Context(t), &healthv1.HealthCheckRequest{Service: name})
		if err != nil || answer.GetStatus() != healthv1.HealthCheckResponse_SERVING {
			t.Errorf("health of %q: %v, %v", name, answer, err)
		}
	}
	watch, err := health.Watch(nodetest.Context(t), &healthv1.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if first, err := watch.Recv(); err != nil || first.GetStatus() != healthv1.HealthCheckResponse_SERVING {
		t.Fatalf("watch: %v, %v", first, err)
	}
	began := time.Now()
	if err := service.Stop(); err != nil {
		t.Errorf("stop: %v", err)
	}
	if took := time.Since(began); took > nodetest.Patience {
		t.Errorf("an open health watch held up the stop for %s", took)
	}
	for err == nil { // NOT_SERVING may come first
		_, err = watch.Recv()
	}
	if status.Code(err) != codes.Unavailable {
		t.Errorf("the watch ended with %v, want Unavailable", err)
	}
}

func TestReflectionNeedsItsRole(t *testing.T) {
	t.Parallel()
	mesh := nodetest.New(t, roles)
	service := mesh.Start(t, "users", "", newSlow().setup)
	for path, want := range map[string]codes.Code{"/operator/bob": codes.OK, "/operator/carol": codes.PermissionDenied} {
		stream, err := reflectionv1.NewServerReflectionClient(mesh.Client(t, path, service)).ServerReflectionInfo(nodetest.Context(t))
		if err != nil {
			t.Fatal(err)
		}
		list := &reflectionv1.ServerReflectionRequest_ListServices{}
		_ = stream.Send(&reflectionv1.ServerReflectionRequest{MessageRequest: list}) // a refusal shows in Recv
		if _, err := stream.Recv(); status.Code(err) != want {
			t.Errorf("%s: got %v, want %v", path, err, want)
		}
		_ = stream.CloseSend()
	}
}

func TestRunRefusesToStart(t *testing.T) {
	t.Parallel()
	mesh := nodetest.New(t, roles)
	good := newSlow().setup
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = taken.Close() }) // after the parallel subtests, unlike defer
	broken := errors.New("broken")
	books := func(_ context.Context, n *node.Node) error {
		ledgerv1.RegisterLedgerServiceServer(n.Server, ledgerv1.UnimplementedLedgerServiceServer{})
		return nil
	}
	for name, tc := range map[string]struct {
		change func(*node.Config)
		setup  func(context.Context, *node.Node) error
		says   string
	}{
		"without an address":                 {func(c *node.Config) { c.Listen = "" }, good, "--listen"},
		"without bindings":                   {func(c *node.Config) { c.Roles = "" }, good, "--roles"},
		"with bindings that are not there":   {func(c *node.Config) { c.Roles += ".old" }, good, "roles.yaml.old"},
		"on an address in use":               {func(c *node.Config) { c.Listen = taken.Addr().String() }, good, "address already in use"},
		"on an admin address in use":         {func(c *node.Config) { c.Admin = taken.Addr().String() }, good, "admin address"},
		"with an admin address for all":      {func(c *node.Config) { c.Admin = ":0" }, good, "not on the loopback interface"},
		"with an admin address of a network": {func(c *node.Config) { c.Admin = "192.0.2.1:80" }, good, "not on the loopback interface"},
		"as someone else":                    {func(c *node.Config) { c.ID = mesh.CA.ID("/service/ledger") }, good, "not of spiffe://mesh.local/service/ledger"},
		"with a setup that fails":            {func(*node.Config) {}, func(context.Context, *node.Node) error { return broken }, "broken"},
		"with a peer it was not told of": {func(c *node.Config) { c.Peers = map[string]node.Peer{"ledger": {}} }, func(_ context.Context, n *node.Node) error {
			_, err := n.Dial("users")
			return err
		}, `no peer "users" (known: ledger): give --peer users=`},
		"with a method that requires a user, without a tokens service":              {func(*node.Config) {}, newSlow().setup, "requires_user"},
		"with methods that take effect once, and nowhere to keep what came of them": {func(c *node.Config) { c.Once = nil }, good, "exactly_once"},
		"with methods that take effect once, and no database": {func(c *node.Config) {
			c.Keys = &node.Peer{Target: mesh.Keys.Target(), ID: mesh.CA.ID("/service/keys")}
		}, books, "the service has opened no database"},
		"with a method that requires a proof, without a keys service": {func(*node.Config) {}, books, "requires_proof"},
		"with a keys service of another trust domain": {func(cfg *node.Config) {
			cfg.Keys = &node.Peer{Target: "dns:///keys:7442", ID: spiffeid.RequireFromString("spiffe://other.example/service/keys")}
		}, good, "other.example"},
		"with a tokens service of another trust domain": {func(cfg *node.Config) {
			cfg.Tokens = &node.Peer{Target: "dns:///tokens:7444", ID: spiffeid.RequireFromString("spiffe://other.example/service/tokens")}
		}, newSlow().setup, "other.example"},
		"with a company's issuer without keys": {func(cfg *node.Config) {
			cfg.Issuers = []usertoken.Issuer{{URL: "https://login.company.example", Audience: "https://api.company.example"}}
		}, newSlow().setup, "JWKSFile"},
		"with a method without a policy": {func(*node.Config) {}, func(_ context.Context, n *node.Node) error {
			channelzv1.RegisterChannelzServer(n.Server, channelzv1.UnimplementedChannelzServer{})
			return nil
		}, "grpc.channelz.v1.Channelz"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := node.Config{
				Name: "users", Listen: "127.0.0.1:0", Admin: "127.0.0.1:0", Roles: mesh.Roles, Dir: t.TempDir(),
				Source: mesh.CA.Source("/service/users"), Once: &exactlyonce.Config{},
				Ready: func(string, string) { t.Error("it reported that it is ready") },
			}
			tc.change(&cfg)
			if err := node.Run(nodetest.Context(t), cfg, tc.setup); err == nil || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("got %v, want an error that says %q", err, tc.says)
			}
		})
	}
}

func TestAServerWithoutTLSIsNotReached(t *testing.T) {
	t.Parallel()
	mesh := nodetest.New(t, roles)
	service := mesh.Start(t, "users", "", newSlow().setup)
	conn, err := net.Dial("tcp", service.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(nodetest.Patience))
	if _, err := conn.Write([]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00")); err != nil {
		t.Fatal(err)
	}
	for {
		buf := make([]byte, 1024)
		n, err := conn.Read(buf)
		if n > 9 && buf[3] == 4 { // an HTTP/2 SETTINGS frame
			t.Fatalf("plaintext HTTP/2 was answered: %q", buf[:n])
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal("the plaintext connection is still open")
		}
		if err != nil {
			return
		}
	}
}
