// Package agentd runs the agent of one machine: it puts together pki/agent, which knows processes and serves the SPIFFE
// Workload API, and the authority, which signs.
//
//	err := agentd.Run(ctx, agentd.Config{TrustDomain: td, Credential: "agent.pem", Bundle: "bundle.pem",
//		Authority: "dns:///127.0.0.1:7441", AuthorityID: id, Socket: "agent.sock", Control: "control.sock"})
//
// The agent has a certificate of its own, in a file since nobody else can give it one. The first is issued by whoever has
// the issuers at hand, or Join gets it with a ticket; the agent renews it from then on. If it has expired (the machine was
// off for long), a new file is taken as soon as it lies there, without a restart; so is a new bundle file beside it.
//
// What verifiers go by comes from the authority over a stream, and is asked for again at each refresh hint. The agent
// never goes back to a bundle with a lower sequence number, writes the roots to its bundle file, so that a restart begins
// with the newest, and reports which bundle it has handed to whom.
package agentd

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/keepalive"

	"example.com/rolecall/interceptors"
	"example.com/rolecall/pki/agent"
)

// Config describes an agent. All fields but Entries, Federated, Shared, Log and Ready are needed.
type Config struct {
	TrustDomain spiffeid.TrustDomain
	// Credential is the agent's own chain and key in one file, as pki.WriteCredential writes it; the agent rewrites it.
	Credential string
	// Bundle holds the roots that the agent starts with; from then on the authority tells them, and the agent rewrites it.
	Bundle string
	// Authority is a gRPC target; AuthorityID the SPIFFE ID that the server there must have.
	Authority   string
	AuthorityID spiffeid.ID
	// Socket and Control are the paths of the Workload API's socket and of the control socket.
	Socket, Control string
	// Shared lets other users connect to Socket.
	Shared bool
	// Entries is the path of entries.yaml, read again whenever it changes. "", or a file that is not there: no entries.
	Entries string
	// Federated are the other trust domains whose bundles workloads are given.
	Federated []Federated
	// Log takes the operational log. nil: slog.Default().
	Log *slog.Logger
	// Ready is called once, when the sockets accept connections. nil: nobody is told.
	Ready func()
}

// reconnect bounds how long gRPC waits between attempts to reach the authority: once it is back, the agent notices soon.
var reconnect = grpc.ConnectParams{
	Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 3 * time.Second},
	MinConnectTimeout: 3 * time.Second,
}

// alive finds out that the authority's machine has gone without a word: the stream of bundles would wait for ever.
var alive = keepalive.ClientParameters{Time: 20 * time.Second, Timeout: 10 * time.Second}

// Run runs the agent until ctx ends.
func Run(ctx context.Context, cfg Config) error {
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	federation, err := newFederation(cfg.Federated, cfg.TrustDomain, cfg.Log)
	if err != nil {
		return fmt.Errorf("agent: %w", err)
	}
	own, err := openSource(cfg.Credential, cfg.Bundle, cfg.TrustDomain, cfg.Log)
	if err != nil {
		return fmt.Errorf("agent: %w", err)
	}
	guard, err := interceptors.New(own, nil, interceptors.Logger(cfg.Log))
	if err != nil {
		return fmt.Errorf("agent: %w", err)
	}
	defer func() { _ = guard.Close() }()
	conn, err := guard.NewClient(cfg.Authority, cfg.AuthorityID, grpc.WithConnectParams(reconnect), grpc.WithKeepaliveParams(alive))
	if err != nil {
		return fmt.Errorf("agent: %w", err)
	}
	defer func() { _ = conn.Close() }()
	authority := newAuthority(conn, own.bundleKeeper, cfg.Log)
	entries := newEntriesFile(cfg)
	found, err := entries.load()
	if err != nil {
		return fmt.Errorf("agent: %w", err)
	}
	server, err := agent.New(agent.Config{TrustDomain: cfg.TrustDomain, Bundle: own.bundle(), Signer: authority, JWT: authority,
		Socket: cfg.Socket, Control: cfg.Control, Shared: cfg.Shared, Entries: found, Log: cfg.Log})
	if err != nil {
		return err
	}
	entries.tell(server.SetEntries)
	federation.tell(server.SetFederated)
	own.tell(server, own.renewal)

	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	running.Go(func() { authority.watchBundle(ctx) })
	running.Go(func() { authority.report(ctx, server) })
	running.Go(func() { own.keepRenewed(ctx, authority, cfg.Log) })
	running.Go(func() { own.followFile(ctx, own.credential) })
	running.Go(func() { entries.watch(ctx) })
	running.Go(func() { federation.run(ctx) })
	cfg.Log.Info("agent serves the Workload API", "socket", cfg.Socket, "entries", len(found), "federated", len(cfg.Federated))
	if cfg.Ready != nil {
		cfg.Ready()
	}
	err = server.Serve(ctx)
	cancel()
	running.Wait()
	return err
}
