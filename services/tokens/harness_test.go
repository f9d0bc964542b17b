package tokens_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/status"

	tokensv1 "example.com/rolecall/gen/tokens/v1"
	usersv1 "example.com/rolecall/gen/users/v1"
	"example.com/rolecall/interceptors"
	"example.com/rolecall/internal/leaktest"
	"example.com/rolecall/internal/node"
	"example.com/rolecall/internal/node/nodetest"
	"example.com/rolecall/internal/store/storetest"
	"example.com/rolecall/services/tokens"
	"example.com/rolecall/services/users"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

const roles = `
trustDomain: mesh.local
bindings:
  - role: users.admin
    members: [spiffe://mesh.local/operator/alice]
  - role: users.verifier
    members: [spiffe://mesh.local/service/tokens]
  - role: tokens.login
    members: [spiffe://mesh.local/operator/bob, spiffe://mesh.local/service/shop]
  - role: tokens.admin
    members: [spiffe://mesh.local/operator/alice]
  - role: tokens.verifier
    members: [spiffe://mesh.local/service/users, spiffe://mesh.local/operator/alice]
`

const password = "correct horse battery"

// clock is the time with an offset that a test changes.
type clock struct {
	offset  atomic.Int64
	stopped atomic.Pointer[time.Time]
}

func (c *clock) now() time.Time {
	now := time.Now()
	if at := c.stopped.Load(); at != nil {
		now = *at
	}
	return now.Add(time.Duration(c.offset.Load()))
}

func (c *clock) advance(d time.Duration) { c.offset.Add(int64(d)) }

// stop lets time pass by advance alone.
func (c *clock) stop() {
	now := time.Now()
	c.stopped.Store(&now)
}

// memory keeps a log to be searched. Safe for concurrent use.
type memory struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (m *memory) Write(p []byte) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.text.Write(p)
}

func (m *memory) String() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.text.String()
}

// house is users and tokens that run, and know of each other.
type house struct {
	mesh          *nodetest.Mesh
	users, tokens *nodetest.Service
	database      string // of tokens
	clock         *clock
	log           *memory
	// alice administers both, bob logs users in.
	alice usersv1.UsersServiceClient
	admin tokensv1.TokensServiceClient
	bob   tokensv1.TokensServiceClient
	// self is bob's way to users.
	self usersv1.UsersServiceClient
}

var cheap = users.Argon2{Passes: 1, MemoryKiB: 64, Lanes: 1}

func newHouse(t *testing.T, url string, changes ...func(*tokens.Config)) *house {
	t.Helper()
	h := &house{mesh: nodetest.New(t, roles), database: url, clock: &clock{}, log: &memory{}}
	logged := func(cfg *node.Config) {
		handler := slog.NewTextHandler(h.log, &slog.HandlerOptions{Level: slog.LevelDebug})
		cfg.Log, cfg.Audit, cfg.AuditAllowed = slog.New(handler), handler, true
	}
	h.users = h.mesh.Start(t, "users", "", users.New(users.Config{Cost: cheap, Now: h.clock.now}), logged)
	config := h.config(changes...)
	h.tokens = h.mesh.Start(t, "tokens", url, tokens.New(config), logged, h.peer)
	h.mesh.Tokens.To(h.tokens)
	h.alice = usersv1.NewUsersServiceClient(h.mesh.Client(t, "/operator/alice", h.users))
	h.admin = tokensv1.NewTokensServiceClient(h.mesh.Client(t, "/operator/alice", h.tokens))
	h.bob = tokensv1.NewTokensServiceClient(h.mesh.Client(t, "/operator/bob", h.tokens))
	h.self = usersv1.NewUsersServiceClient(h.mesh.Client(t, "/operator/bob", h.users))
	h.create(t, "dave", "orders.customer", "orders.reader")
	return h
}

func (h *house) config(changes ...func(*tokens.Config)) tokens.Config {
	config := tokens.Config{Now: h.clock.now}
	for _, change := range changes {
		change(&config)
	}
	return config
}

func (h *house) peer(cfg *node.Config) {
	cfg.Peers = map[string]node.Peer{"users": h.users.Peer()}
}

// each runs a test on every kind of database of tokens.
func each(t *testing.T, test func(t *testing.T, h *house)) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, url string) { test(t, newHouse(t, url)) })
}

func (h *house) create(t *testing.T, username string, roles ...string) {
	t.Helper()
	if _, err := h.alice.Create(nodetest.Context(t), &usersv1.CreateRequest{
		User: &usersv1.User{Username: username, Roles: roles, Attributes: `{"tier":"<gold>"}`}, Password: password,
	}); err != nil {
		t.Fatalf("create %s: %v", username, err)
	}
}

func (h *house) login(t *testing.T, subset ...string) *tokensv1.TokenPair {
	t.Helper()
	req := &tokensv1.LoginRequest{Username: "dave", Password: password}
	if subset != nil {
		req.RoleSubset = &tokensv1.RoleSubset{Roles: subset}
	}
	answer, err := h.bob.Login(nodetest.Context(t), req)
	if err != nil {
		t.Fatalf("login: %v", err)
	}
	return answer.GetTokens()
}

func (h *house) refresh(t *testing.T, token string) (*tokensv1.TokenPair, error) {
	t.Helper()
	answer, err := h.bob.Refresh(nodetest.Context(t), &tokensv1.RefreshRequest{RefreshToken: token})
	return answer.GetTokens(), err
}

func (h *house) mustRefresh(t *testing.T, token string) *tokensv1.TokenPair {
	t.Helper()
	pair, err := h.refresh(t, token)
	if err != nil {
		t.Fatalf("refresh: %v", err)
	}
	return pair
}

// whoAmI asks users on behalf of whom a token speaks for.
func (h *house) whoAmI(t *testing.T, token string) (*usersv1.GetSelfResponse, error) {
	t.Helper()
	return h.self.GetSelf(interceptors.AsUser(nodetest.Context(t), token), &usersv1.GetSelfRequest{})
}

// waitSelf asks until the answer has the reason; "" for no refusal.
func (h *house) waitSelf(t *testing.T, token, want string) (answer *usersv1.GetSelfResponse) {
	t.Helper()
	wait(t, "GetSelf answers "+want, func() (ok bool) {
		var err error
		answer, err = h.whoAmI(t, token)
		return reason(err) == want && (err == nil) == (want == "")
	})
	return answer
}

// wait waits for a condition.
func wait(t *testing.T, what string, is func() bool) {
	t.Helper()
	began := time.Now()
	for !is() {
		if time.Since(began) > nodetest.Patience {
			t.Fatalf("waited %s until %s", nodetest.Patience, what)
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-t.Context().Done():
		}
	}
	t.Logf("%s after %s", what, time.Since(began).Round(time.Millisecond))
}

func reason(err error) string {
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			return info.GetReason()
		}
	}
	return ""
}

// part decodes a part of a JWS without looking at its signature.
func part(t *testing.T, token string, i int) map[string]any {
	t.Helper()
	data, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[i])
	if err != nil {
		t.Fatalf("part %d: %v", i, err)
	}
	var v map[string]any
	if err := json.Unmarshal(data, &v); err != nil {
		t.Fatalf("part %d: %v", i, err)
	}
	return v
}

// follow opens a stream of revocations as alice, and hands its messages over until it ends.
func follow(t *testing.T, client tokensv1.TokensServiceClient, req *tokensv1.WatchRevocationsRequest) (<-chan *tokensv1.WatchRevocationsResponse, <-chan error) {
	t.Helper()
	ctx, cancel := context.WithCancel(nodetest.Context(t))
	stream, err := client.WatchRevocations(ctx, req)
	if err != nil {
		t.Fatalf("watch: %v", err)
	}
	messages, ended := make(chan *tokensv1.WatchRevocationsResponse), make(chan error, 1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer close(messages)
		for {
			m, err := stream.Recv()
			if err != nil {
				ended <- err
				return
			}
			select {
			case messages <- m:
			case <-ctx.Done():
				ended <- ctx.Err()
				return
			}
		}
	}()
	t.Cleanup(func() { cancel(); <-done })
	return messages, ended
}

// next returns the first message that is none of keys and no heartbeat.
func next(t *testing.T, messages <-chan *tokensv1.WatchRevocationsResponse) *tokensv1.WatchRevocationsResponse {
	t.Helper()
	late := time.After(nodetest.Patience)
	for {
		select {
		case m, ok := <-messages:
			if !ok {
				t.Fatal("the stream has ended")
			}
			if m.GetKeys() == nil && m.GetHeartbeat() == nil {
				return m
			}
		case <-late:
			t.Fatalf("no message within %s", nodetest.Patience)
		}
	}
}

// toUsers leads a tokens service to users over a relay.
func toUsers(h *house, way *nodetest.Relay) func(*node.Config) {
	return func(cfg *node.Config) {
		cfg.Peers = map[string]node.Peer{"users": {Target: way.Target(), ID: h.users.ID}}
	}
}

// metrics returns what both services publish.
func (h *house) metrics(t *testing.T) string {
	t.Helper()
	var all strings.Builder
	for _, s := range []*nodetest.Service{h.users, h.tokens} {
		answer, err := http.Get("http://" + s.Admin + "/metrics")
		if err != nil {
			t.Fatalf("metrics: %v", err)
		}
		if _, err := io.Copy(&all, answer.Body); err != nil {
			t.Fatalf("metrics: %v", err)
		}
		if err := answer.Body.Close(); err != nil {
			t.Fatalf("metrics: %v", err)
		}
	}
	http.DefaultClient.CloseIdleConnections()
	return all.String()
}
