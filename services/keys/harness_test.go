package keys_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"

	keysv1 "example.com/rolecall/gen/keys/v1"
	"example.com/rolecall/interceptors"
	"example.com/rolecall/internal/leaktest"
	"example.com/rolecall/internal/node"
	"example.com/rolecall/internal/node/nodetest"
	"example.com/rolecall/internal/store/storetest"
	"example.com/rolecall/rolecalltest"
	"example.com/rolecall/services/keys"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

const roles = "trustDomain: mesh.local\n"

// clock is the time with an offset that a test changes.
type clock struct{ offset atomic.Int64 }

func (c *clock) now() time.Time          { return time.Now().Add(time.Duration(c.offset.Load())) }
func (c *clock) advance(d time.Duration) { c.offset.Add(int64(d)) }

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

// house is a key server that runs.
type house struct {
	mesh     *nodetest.Mesh
	server   *nodetest.Service
	database string
	clock    *clock
	log      *memory
	config   keys.Config
}

func newHouse(t *testing.T, url string, changes ...func(*keys.Config)) *house {
	t.Helper()
	h := &house{mesh: nodetest.New(t, roles), database: url, clock: &clock{}, log: &memory{}}
	h.config.Now = h.clock.now
	for _, change := range changes {
		change(&h.config)
	}
	h.server = h.start(t)
	return h
}

// start starts the key server on the database, once more or as a replica.
func (h *house) start(t *testing.T, changes ...func(*node.Config)) *nodetest.Service {
	t.Helper()
	return h.mesh.Start(t, "keys", h.database, keys.New(h.config), append([]func(*node.Config){func(cfg *node.Config) {
		cfg.Peers = map[string]node.Peer{"tokens": {Target: h.mesh.Tokens.Target(), ID: h.mesh.CA.ID("/service/tokens")}}
		cfg.Log = slog.New(slog.NewTextHandler(h.log, nil))
	}}, changes...)...)
}

// each runs a test on every kind of database.
func each(t *testing.T, test func(t *testing.T, h *house)) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, url string) { test(t, newHouse(t, url)) })
}

// dial connects a workload with a connection of its own to a key server, until the test ends or hangs up. gRPC does not try
// again: the test sees each answer.
func dial(t *testing.T, source interceptors.Source, to *nodetest.Service) (client keysv1.KeysServiceClient, hangUp func()) {
	t.Helper()
	guard, err := interceptors.New(source, nil, interceptors.Audit(slog.DiscardHandler))
	if err != nil {
		t.Fatalf("guard: %v", err)
	}
	conn, err := guard.NewClient("dns:///"+to.Addr, to.ID, grpc.WithDisableRetry())
	if err != nil {
		t.Fatalf("connect: %v", err)
	}
	var once sync.Once
	hangUp = func() {
		once.Do(func() {
			_ = conn.Close()
			_ = guard.Close()
		})
	}
	t.Cleanup(hangUp)
	return keysv1.NewKeysServiceClient(conn), hangUp
}

// reader returns a workload that asks.
func (h *house) reader(t *testing.T) keysv1.KeysServiceClient {
	t.Helper()
	client, _ := dial(t, h.mesh.CA.Source("/service/reader"), h.server)
	return client
}

// announce announces what the source holds now, over a fresh connection, and returns the thumbprint.
func (h *house) announce(t *testing.T, source *rolecalltest.Source) string {
	t.Helper()
	return announce(t, source, h.server)
}

func announce(t *testing.T, source *rolecalltest.Source, to *nodetest.Service) string {
	t.Helper()
	client, hangUp := dial(t, source, to)
	defer hangUp()
	answer, err := client.Announce(nodetest.Context(t), &keysv1.AnnounceRequest{})
	if err != nil {
		t.Fatalf("announce: %v", err)
	}
	return answer.GetKid()
}

// leaf returns the certificate that a source holds now.
func leaf(t *testing.T, source *rolecalltest.Source) *x509.Certificate {
	t.Helper()
	svid, err := source.GetX509SVID()
	if err != nil {
		t.Fatal(err)
	}
	return svid.Certificates[0]
}

// kids returns the thumbprints of a workload's keys in the order of the answer.
func kids(t *testing.T, client keysv1.KeysServiceClient, id string) []string {
	t.Helper()
	answer, err := client.GetKeys(nodetest.Context(t), &keysv1.GetKeysRequest{SpiffeId: id})
	if err != nil {
		t.Fatalf("get keys of %s: %v", id, err)
	}
	var got []string
	for _, k := range answer.GetKeys() {
		got = append(got, k.GetKid())
	}
	return got
}

// await asks until it is so.
func await(t *testing.T, what string, is func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for began := time.Now(); !is(); <-tick.C {
		if time.Since(began) > nodetest.Patience {
			t.Fatalf("%s: not within %s", what, nodetest.Patience)
		}
	}
}

// follow opens a stream and returns what it says, and how it ended. A message that nobody takes holds the stream up.
func follow(t *testing.T, client keysv1.KeysServiceClient, req *keysv1.WatchKeysRequest) (<-chan *keysv1.WatchKeysResponse, <-chan error) {
	t.Helper()
	ctx, cancel := context.WithCancel(nodetest.Context(t))
	stream, err := client.WatchKeys(ctx, req)
	if err != nil {
		t.Fatalf("watch: %v", err)
	}
	messages, ended := make(chan *keysv1.WatchKeysResponse), make(chan error, 1)
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

// next returns the first message that is no heartbeat.
func next(t *testing.T, messages <-chan *keysv1.WatchKeysResponse) *keysv1.WatchKeysResponse {
	t.Helper()
	late := time.After(nodetest.Patience)
	for {
		select {
		case m, ok := <-messages:
			if !ok {
				t.Fatal("the stream has ended")
			}
			if m.GetHeartbeat() == nil {
				return m
			}
		case <-late:
			t.Fatalf("no message within %s", nodetest.Patience)
		}
	}
}
