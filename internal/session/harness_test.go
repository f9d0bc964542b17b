package session_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"

	tokensv1 "example.com/rolecall/gen/tokens/v1"
	usersv1 "example.com/rolecall/gen/users/v1"
	"example.com/rolecall/interceptors"
	"example.com/rolecall/internal/leaktest"
	"example.com/rolecall/internal/node"
	"example.com/rolecall/internal/node/nodetest"
	"example.com/rolecall/internal/session"
	"example.com/rolecall/services/tokens"
	"example.com/rolecall/services/users"
)

func TestMain(m *testing.M) {
	if os.Getenv(helperEnv) != "" {
		os.Exit(helper())
	}
	leaktest.Main(m)
}

const (
	password = "correct horse battery"
	bob      = "spiffe://mesh.local/operator/bob"
	roles    = `
trustDomain: mesh.local
bindings:
  - {role: users.admin, members: [spiffe://mesh.local/operator/alice]}
  - {role: users.verifier, members: [spiffe://mesh.local/service/tokens]}
  - {role: tokens.login, members: [spiffe://mesh.local/operator/bob, spiffe://mesh.local/operator/eve]}
  - {role: tokens.verifier, members: [spiffe://mesh.local/service/users]}
`
)

// desk is users and tokens that run, the user dave, and a folder for bob's session.
type desk struct {
	mesh          *nodetest.Mesh
	users, tokens *nodetest.Service
	client        *client
	path          string
	session       *session.Session
	offset        atomic.Int64              // of the clock of both services
	stopped       atomic.Pointer[time.Time] // where that clock stands still; nil: it goes
}

func newDesk(t *testing.T, config tokens.Config) *desk {
	t.Helper()
	d := &desk{mesh: nodetest.New(t, roles), path: filepath.Join(t.TempDir(), "mesh", "session.json")}
	config.Now = func() time.Time {
		now := time.Now()
		if at := d.stopped.Load(); at != nil {
			now = *at
		}
		return now.Add(time.Duration(d.offset.Load()))
	}
	d.users = d.mesh.Start(t, "users", "", users.New(users.Config{Cost: users.Argon2{Passes: 1, MemoryKiB: 64, Lanes: 1}, Now: config.Now}))
	d.tokens = d.mesh.Start(t, "tokens", "", tokens.New(config), func(cfg *node.Config) {
		cfg.Peers = map[string]node.Peer{"users": d.users.Peer()}
	})
	d.mesh.Tokens.To(d.tokens)
	alice := usersv1.NewUsersServiceClient(d.mesh.Client(t, "/operator/alice", d.users))
	if _, err := alice.Create(nodetest.Context(t), &usersv1.CreateRequest{
		User: &usersv1.User{Username: "dave", Roles: []string{"orders.customer", "orders.reader"}}, Password: password,
	}); err != nil {
		t.Fatal(err)
	}
	d.client = &client{TokensServiceClient: tokensv1.NewTokensServiceClient(d.mesh.Client(t, "/operator/bob", d.tokens))}
	d.session = session.At(d.path, d.client)
	return d
}

// login logs dave in.
func (d *desk) login(t *testing.T, roles ...string) session.Tokens {
	t.Helper()
	logged, err := d.session.Login(nodetest.Context(t), "dave", password, bob, roles)
	if err != nil {
		t.Fatalf("login: %v", err)
	}
	return logged
}

// stop has the clock of both services stand still: less time passes for them than for this machine, however busy it is.
func (d *desk) stop() {
	now := time.Now()
	d.stopped.Store(&now)
}

// self asks users on whose behalf a token speaks, and returns the reason of a refusal.
func (d *desk) self(t *testing.T, token string) string {
	t.Helper()
	client := usersv1.NewUsersServiceClient(d.mesh.Client(t, "/operator/bob", d.users))
	var reason string
	nodetest.Verifies(t, func() error {
		_, err := client.GetSelf(interceptors.AsUser(nodetest.Context(t), token), &usersv1.GetSelfRequest{})
		reason = nodetest.Reason(err)
		return err
	})
	return reason
}

// refused waits until a token is refused for the reason.
func (d *desk) refused(t *testing.T, token, reason string) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for began := time.Now(); d.self(t, token) != reason; <-tick.C {
		if time.Since(began) > nodetest.Patience {
			t.Fatalf("the token is not refused with %s within %s", reason, nodetest.Patience)
		}
	}
}

// stored reads the file.
func (d *desk) stored(t *testing.T) session.Tokens {
	t.Helper()
	stored, err := session.Read(d.path)
	if err != nil {
		t.Fatalf("read: %v", err)
	}
	return stored
}

// age makes the access token in the file too old to be given out.
func (d *desk) age(t *testing.T) {
	t.Helper()
	stored := d.stored(t)
	stored.RefreshAt = time.Now().Add(-time.Second)
	data, err := json.Marshal(stored)
	if err == nil {
		err = os.WriteFile(d.path, data, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// client counts refreshes, and loses answers.
type client struct {
	tokensv1.TokensServiceClient
	refreshes atomic.Int64
	// lose makes the next refresh fail after it has taken place, as for a process that ends before it writes.
	lose atomic.Bool
}

// Refresh implements the client.
func (c *client) Refresh(ctx context.Context, in *tokensv1.RefreshRequest, opts ...grpc.CallOption) (*tokensv1.RefreshResponse, error) {
	c.refreshes.Add(1)
	answer, err := c.TokensServiceClient.Refresh(ctx, in, opts...)
	if err == nil && c.lose.CompareAndSwap(true, false) {
		return nil, context.Canceled
	}
	return answer, err
}

// files writes the certificate of a workload, as other processes read it.
func (d *desk) files(t *testing.T, path string) (cert, key, bundle string) {
	t.Helper()
	svid, err := d.mesh.CA.Source(path).GetX509SVID()
	if err != nil {
		t.Fatal(err)
	}
	certs, keyPEM, err := svid.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	var roots bytes.Buffer
	for _, root := range d.mesh.CA.Bundle().X509Authorities() {
		write(t, &roots, root)
	}
	dir := t.TempDir()
	cert, key, bundle = filepath.Join(dir, "crt"), filepath.Join(dir, "key"), filepath.Join(dir, "bundle")
	for file, data := range map[string][]byte{cert: certs, key: keyPEM, bundle: roots.Bytes()} {
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key, bundle
}

func write(t *testing.T, to *bytes.Buffer, cert *x509.Certificate) {
	t.Helper()
	if err := pem.Encode(to, &pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}); err != nil {
		t.Fatal(err)
	}
}

// quiet keeps a guard from writing.
var quiet = []interceptors.Option{interceptors.Audit(slog.DiscardHandler), interceptors.Logger(slog.New(slog.DiscardHandler))}
