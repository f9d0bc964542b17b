// Package agentd runs the agent of one machine: it puts together pki/agent, which knows processes and serves the SPIFFE
// Workload API, and the authority, which signs.
//
//	err := agentd.Run(ctx, agentd.Config{TrustDomain: td, Credential: "agent.pem", Bundle: "bundle.pem",
//		Authority: "dns:///127.0.0.1:7441", AuthorityID: id, Socket: "agent.sock", Control: "control.sock"})
//
// The agent has a certificate of its own, in a file since nobody else can give it one: the first is issued by whoever has
// the issuers at hand, the agent renews it from then on. If it has expired (the machine was off for long), a new file is
// taken as soon as it lies there, without a restart.
package agentd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"

	"example.com/rolecall/interceptors"
	"example.com/rolecall/pki/agent"
)

// Config describes an agent. All fields but Entries, Shared, Log and Ready are needed.
type Config struct {
	TrustDomain spiffeid.TrustDomain
	// Credential is the agent's own chain and key in one file, as pki.WriteCredential writes it; the agent rewrites it.
	Credential string
	// Bundle holds the roots that the agent starts with; from then on the authority tells them.
	Bundle string
	// Authority is a gRPC target; AuthorityID the SPIFFE ID that the server there must have.
	Authority   string
	AuthorityID spiffeid.ID
	// Socket and Control are the paths of the Workload API's socket and of the control socket.
	Socket, Control string
	// Shared lets other users connect to Socket.
	Shared bool
	// Entries is the path of entries.yaml. "", or a file that is not there: no entries.
	Entries string
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

// Run runs the agent until ctx ends.
func Run(ctx context.Context, cfg Config) error {
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	entries, err := readEntries(cfg)
	if err != nil {
		return fmt.Errorf("agent: %w", err)
	}
	own, err := openCredential(cfg.Credential, cfg.Bundle, cfg.TrustDomain)
	if err != nil {
		return fmt.Errorf("agent: %w", err)
	}
	guard, err := interceptors.New(own, nil, interceptors.Logger(cfg.Log))
	if err != nil {
		return fmt.Errorf("agent: %w", err)
	}
	defer func() { _ = guard.Close() }()
	conn, err := guard.NewClient(cfg.Authority, cfg.AuthorityID, grpc.WithConnectParams(reconnect))
	if err != nil {
		return fmt.Errorf("agent: %w", err)
	}
	defer func() { _ = conn.Close() }()
	authority := newAuthority(conn, own, cfg.Log)
	server, err := agent.New(agent.Config{TrustDomain: cfg.TrustDomain, Bundle: own.bundle(), Signer: authority,
		Socket: cfg.Socket, Control: cfg.Control, Shared: cfg.Shared, Entries: entries, Log: cfg.Log})
	if err != nil {
		return err
	}
	own.onBundle(server.SetBundle)

	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	running.Go(func() { authority.followBundle(ctx) })
	running.Go(func() { own.keepRenewed(ctx, authority, cfg.Log) })
	cfg.Log.Info("agent serves the Workload API", "socket", cfg.Socket, "entries", len(entries))
	if cfg.Ready != nil {
		cfg.Ready()
	}
	err = server.Serve(ctx)
	cancel()
	running.Wait()
	return err
}

func readEntries(cfg Config) ([]agent.Entry, error) {
	if cfg.Entries == "" {
		return nil, nil
	}
	entries, err := agent.ReadEntries(cfg.Entries, cfg.TrustDomain)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	return entries, err
}
