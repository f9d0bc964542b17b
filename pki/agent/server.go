package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"
)

// Bounds of what a peer may send: the Workload API's requests are small.
const (
	maxMessage       = 64 << 10
	maxHeaders       = 8 << 10
	handshakeTimeout = 15 * time.Second // thousands of clients come back at once after a restart
	idleTimeout      = 10 * time.Minute // of a connection without a stream
	stopTimeout      = 2 * time.Second
	connectionBuffer = 4 << 10
)

// Config describes an agent. All fields but JWT, Shared, Entries, StreamsPerProcess and Log are needed.
type Config struct {
	TrustDomain spiffeid.TrustDomain
	Bundle      *x509bundle.Bundle // the roots until SetBundle
	Signer      Signer
	JWT         JWTSigner // nil: no JWT-SVIDs are issued

	Socket  string // path of the Workload API's socket, MaxSocketPath bytes at most
	Control string // path of the control socket
	Shared  bool   // other users may connect to Socket; its directory's mode is then the operator's business

	Entries           []Entry      // until SetEntries
	StreamsPerProcess int          // 256 if zero
	Log               *slog.Logger // discarded if nil

	// For tests.
	now            func() time.Time // the wall clock if nil
	stuckAfter     time.Duration    // a minute if zero
	unattestedWait time.Duration    // a second if zero
}

// Server is a running agent. Safe for concurrent use.
type Server struct {
	config   Config
	log      *slog.Logger
	now      func() time.Time
	registry *registry
	subjects *subjects
	trust    atomic.Pointer[trust]
	trusting sync.Mutex // one change of trust at a time
	entries  atomic.Pointer[entrySet]
	sums     *checksums
	tokens   *tokens
	handed   *handouts
	streams  *census
	refusals *seldom
	stopping chan struct{}

	workload *socket
	control  *socket
}

// New checks the configuration and opens both sockets; Serve answers on them.
func New(c Config) (*Server, error) {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.StreamsPerProcess == 0 {
		c.StreamsPerProcess = defaultStreamsPerProcess
	}
	if c.stuckAfter == 0 {
		c.stuckAfter = stuckAfter
	}
	if c.unattestedWait == 0 {
		c.unattestedWait = unattestedWait
	}
	if c.now == nil {
		c.now = func() time.Time { return time.Now().Round(0) }
	}
	if c.TrustDomain.IsZero() || c.Bundle == nil || c.Signer == nil {
		return nil, errors.New("agent: trust domain, bundle and signer are needed")
	}
	if c.Bundle.TrustDomain() != c.TrustDomain {
		return nil, fmt.Errorf("agent: the bundle is of %s, not of %s", c.Bundle.TrustDomain(), c.TrustDomain)
	}
	if _, err := readProcess(os.Getpid()); err != nil {
		return nil, fmt.Errorf("agent: processes cannot be told apart here: %w", err)
	}
	s := newServer(c)
	var err error
	if s.workload, err = listen(c.Socket, c.Shared); err != nil {
		return nil, fmt.Errorf("agent: Workload API: %w", err)
	}
	if s.control, err = listen(c.Control, false); err != nil {
		return nil, errors.Join(fmt.Errorf("agent: control socket: %w", err), s.workload.Close())
	}
	return s, nil
}

// newServer makes a server without its sockets.
func newServer(c Config) *Server {
	now := c.now
	s := &Server{config: c, log: c.Log, now: now, subjects: newSubjects(), sums: newChecksums(),
		tokens: newTokens(c.JWT, now, c.Log), handed: newHandouts(now),
		streams: newCensus("streams", maxStreams, c.StreamsPerProcess), refusals: newSeldom(now), stopping: make(chan struct{})}
	slots := make(chan struct{}, signingAtOnce)
	s.registry = newRegistry(func(n names) *identity {
		return newIdentity(n, boundedSigner{c.Signer, slots}, s.log, now, s.subjects.wakeIdentity)
	}, s.subjects.wakeProcess)
	s.entries.Store(newEntrySet(c.Entries))
	s.trust.Store(&trust{domain: c.TrustDomain})
	s.SetBundle(c.Bundle)
	return s
}

// SetRevokedIssuers names the issuers that were revoked, by the SHA-256 of their SubjectPublicKeyInfo. Every certificate
// under one is replaced within 5 s, or a twentieth of its life if that is less, eight at a time; one that the authority
// still signs under one is not taken.
func (s *Server) SetRevokedIssuers(keys [][32]byte) {
	set := make(map[[32]byte]struct{}, len(keys))
	for _, key := range keys {
		set[key] = struct{}{}
	}
	s.registry.setRevoked(set)
}

// Serve answers until ctx ends or a socket fails. Open streams are ended with Unavailable, on which clients come back.
// It may be called once.
func (s *Server) Serve(ctx context.Context) error {
	peers := newPeerCredentials()
	if most := peers.connections.all; most < maxConnections {
		s.log.Info("the limit of open files leaves room for fewer connections than the agent would serve", "connections", most, "wanted", maxConnections)
	}
	server := grpc.NewServer(
		grpc.Creds(peers),
		grpc.ChainUnaryInterceptor(checkUnary),
		grpc.ChainStreamInterceptor(checkStream),
		grpc.MaxRecvMsgSize(maxMessage),
		grpc.MaxHeaderListSize(maxHeaders),
		grpc.MaxConcurrentStreams(uint32(s.config.StreamsPerProcess)),
		// Thousands of connections that mostly sleep: small buffers.
		grpc.ReadBufferSize(connectionBuffer), grpc.WriteBufferSize(connectionBuffer),
		grpc.ConnectionTimeout(handshakeTimeout),
		grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionIdle: idleTimeout}),
	)
	workload.RegisterSpiffeWorkloadAPIServer(server, workloadAPI{server: s})

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var running sync.WaitGroup
	failed := make(chan error, 2)
	running.Go(func() { failed <- server.Serve(s.workload) })
	running.Go(func() { failed <- s.serveControl(ctx) })

	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
		err = fmt.Errorf("agent: %w", err)
	}
	close(s.stopping)
	cancel()
	force := time.AfterFunc(stopTimeout, server.Stop)
	server.GracefulStop()
	force.Stop()
	running.Wait()
	s.registry.stop()
	return err
}
