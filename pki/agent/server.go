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
	handshakeTimeout = 5 * time.Second
	idleTimeout      = 10 * time.Minute // of a connection without a stream
	stopTimeout      = 2 * time.Second
)

// Config describes an agent. All fields but Shared, Entries, StreamsPerProcess and Log are needed.
type Config struct {
	TrustDomain spiffeid.TrustDomain
	Bundle      *x509bundle.Bundle // the roots until SetBundle
	Signer      Signer

	Socket  string // path of the Workload API's socket, MaxSocketPath bytes at most
	Control string // path of the control socket
	Shared  bool   // other users may connect to Socket; its directory's mode is then the operator's business

	Entries           []Entry
	StreamsPerProcess int          // 64 if zero
	Log               *slog.Logger // discarded if nil
}

// Server is a running agent. Safe for concurrent use.
type Server struct {
	config   Config
	log      *slog.Logger
	registry *registry
	bundle   atomic.Pointer[x509bundle.Bundle]
	sums     *checksums
	streams  streamCount
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
	if c.TrustDomain.IsZero() || c.Bundle == nil || c.Signer == nil {
		return nil, errors.New("agent: trust domain, bundle and signer are needed")
	}
	if c.Bundle.TrustDomain() != c.TrustDomain {
		return nil, fmt.Errorf("agent: the bundle is of %s, not of %s", c.Bundle.TrustDomain(), c.TrustDomain)
	}
	if _, err := readProcess(os.Getpid()); err != nil {
		return nil, fmt.Errorf("agent: processes cannot be told apart here: %w", err)
	}
	s := &Server{config: c, log: c.Log, sums: newChecksums(), stopping: make(chan struct{})}
	s.streams = streamCount{most: c.StreamsPerProcess, open: map[process]int{}}
	slots := make(chan struct{}, signingAtOnce)
	s.registry = newRegistry(func(n names) *identity {
		return newIdentity(n, boundedSigner{c.Signer, slots}, s.log, func() { s.registry.notify() })
	})
	s.bundle.Store(c.Bundle.Clone())
	var err error
	if s.workload, err = listen(c.Socket, c.Shared); err != nil {
		return nil, fmt.Errorf("agent: Workload API: %w", err)
	}
	if s.control, err = listen(c.Control, false); err != nil {
		return nil, errors.Join(fmt.Errorf("agent: control socket: %w", err), s.workload.Close())
	}
	return s, nil
}

// Serve answers until ctx ends or a socket fails. Open streams are ended with Unavailable, on which clients come back.
// It may be called once.
func (s *Server) Serve(ctx context.Context) error {
	server := grpc.NewServer(
		grpc.Creds(newPeerCredentials()),
		grpc.ChainUnaryInterceptor(checkUnary),
		grpc.ChainStreamInterceptor(checkStream),
		grpc.MaxRecvMsgSize(maxMessage),
		grpc.MaxHeaderListSize(maxHeaders),
		grpc.MaxConcurrentStreams(uint32(s.config.StreamsPerProcess)),
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
