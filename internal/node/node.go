// Package node runs one service of the mesh: it gets the certificate, guards the server, opens the database and the
// connections to other services, answers for health and metrics, and stops without breaking off calls.
//
//	err := node.Run(ctx, node.Config{Name: "ledger", Listen: "127.0.0.1:7445", Roles: "roles.yaml", Dir: dir}, ledger.Setup)
//
// A service's Setup registers its handlers on the Node it is given; health, reflection and rolecall.admin.v1, which tells
// what the process trusts, are there already. Run returns when ctx ends and the calls in flight are done. Nothing is served without mutual TLS, except /healthz, /readyz and /metrics on a loopback address.
package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"go.opentelemetry.io/otel/metric"
	"google.golang.org/grpc"
	grpcbackoff "google.golang.org/grpc/backoff"

	"example.com/rolecall/interceptors"
	"example.com/rolecall/interceptors/exactlyonce"
	"example.com/rolecall/interceptors/usertoken"
	"example.com/rolecall/internal/store"
)

// Config says how to run a service. Name, Listen and Roles must be set.
type Config struct {
	// Name is a lower-case word: ledger.
	Name string
	// ID is the own SPIFFE ID: which certificate to take where several are offered. Zero: the one with the path
	// /service/<Name>, or the only one that is offered.
	ID spiffeid.ID
	// Listen is host:port of the gRPC server; port 0 takes a free one.
	Listen string
	// Admin is a loopback host:port for /healthz, /readyz and /metrics. Empty: not served.
	Admin string
	// Pprof also serves /debug/pprof on Admin.
	Pprof bool
	// Roles is the path of roles.yaml.
	Roles string
	// Database is a postgres:// URL or the path of an SQLite file; empty: <Dir>/<Name>.db.
	Database string
	// Dir is where the service keeps its files.
	Dir string
	// Peers are the services that this one calls, by name.
	Peers map[string]Peer
	// Tokens is the service whose access tokens of users are accepted. nil: a service with a method that requires a user
	// does not start.
	Tokens *Peer
	// Keys is the service that tells which keys others sign with, for a service that signs requests or takes signed ones. The
	// zero Peer: proofs of peers are verified, and none that is passed on. nil: a service with a method that requires a proof
	// does not start, and no request is signed.
	Keys *Peer
	// Once says how outcomes of requests that take effect once are kept; its DB is the node's own. nil: a service with a method
	// that has exactly_once does not start.
	Once *exactlyonce.Config
	// Issuers are those beside Tokens whose users are accepted too: a company's own.
	Issuers []usertoken.Issuer
	// Source holds certificate and bundle. nil: the Workload API that SPIFFE_ENDPOINT_SOCKET names.
	Source interceptors.Source
	// Audit takes the audit records. nil: JSON on standard error.
	Audit slog.Handler
	// AuditAllowed records calls that were allowed too.
	AuditAllowed bool
	// Log takes the operational log. nil: slog.Default().
	Log *slog.Logger
	// Grace bounds how long calls in flight may take once ctx has ended. 0: 15 s.
	Grace time.Duration
	// Ready is called once, when the server accepts connections, with the addresses that it listens on. nil: nobody is told.
	Ready func(addr, admin string)
}

// Peer is a service that this one calls.
type Peer struct {
	// Target is a gRPC target: dns:///ledger:7445.
	Target string
	// ID is the SPIFFE ID that the server must have.
	ID spiffeid.ID
}

const defaultGrace = 15 * time.Second

// Node is what a service is given to set itself up with.
type Node struct {
	// Server takes the service's registration.
	Server grpc.ServiceRegistrar
	// ID is the own SPIFFE ID.
	ID spiffeid.ID
	// Log is the service's operational log.
	Log *slog.Logger
	// Meter makes the service's own metrics.
	Meter metric.Meter

	config   Config
	source   interceptors.Source
	guard    *interceptors.Guard
	requests *exactlyonce.Requests
	stopping chan struct{}

	mu      sync.Mutex
	db      *store.DB
	closers []func() error

	background       context.Context
	cancelBackground context.CancelFunc
	tasks            sync.WaitGroup
}

// OpenDB opens the service's database and applies what is new in the folder migrations of files. It is called once. Run
// closes the database after the last call has ended.
func (n *Node) OpenDB(ctx context.Context, files fs.FS) (*store.DB, error) {
	migrations, err := fs.Sub(files, "migrations")
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.db != nil {
		return nil, errors.New("node: the database is open already")
	}
	db, err := store.Open(ctx, store.Config{
		Service: n.config.Name, URL: n.config.Database, Dir: n.config.Dir, Migrations: migrations, Log: n.Log,
	})
	if err != nil {
		return nil, err
	}
	n.db = db
	return db, nil
}

// closeDatabase closes the database if it was opened.
func (n *Node) closeDatabase() error {
	db := n.database()
	if db == nil {
		return nil
	}
	return db.Close()
}

// Knows tells whether the node was told of a peer of that name.
func (n *Node) Knows(name string) bool {
	_, ok := n.config.Peers[name]
	return ok
}

// Dial returns a connection to a peer by its name. It connects when it is first used, and belongs to the node.
func (n *Node) Dial(name string) (*grpc.ClientConn, error) {
	peer, ok := n.config.Peers[name]
	if !ok {
		known := strings.Join(slices.Sorted(maps.Keys(n.config.Peers)), ", ")
		return nil, fmt.Errorf("no peer %q (known: %s): give --peer %s=dns:///HOST:PORT,spiffe://TRUST-DOMAIN/service/%s", name, known, name, name)
	}
	conn, err := n.guard.NewClient(peer.Target, peer.ID, grpc.WithConnectParams(quickly))
	if err != nil {
		return nil, fmt.Errorf("peer %s: %w", name, err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.closers = append(n.closers, conn.Close)
	return conn, nil
}

// quickly tries again sooner than gRPC by itself, which waits for a second first: services of a mesh start together, in any
// order, and one that was started again is asked at once.
var quickly = grpc.ConnectParams{
	Backoff:           grpcbackoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 5 * time.Second},
	MinConnectTimeout: 5 * time.Second,
}

// SVID returns the own certificate, as it is now, with its key: for what a service signs in its own name.
func (n *Node) SVID() (*x509svid.SVID, error) {
	svid, err := n.source.GetX509SVID()
	if err != nil {
		return nil, fmt.Errorf("read the own certificate: %w", err)
	}
	return svid, nil
}

// Requests knows the requests that have taken effect once, as soon as the service's database is open; nil without Config.Once.
func (n *Node) Requests() *exactlyonce.Requests { return n.requests }

// Stopping is closed when the node begins to stop. A stream without an end of its own ends then, or it would hold up the
// stop for all of Grace.
func (n *Node) Stopping() <-chan struct{} { return n.stopping }

// Go runs f until the server has stopped. f returns soon after its context has ended.
func (n *Node) Go(f func(ctx context.Context)) {
	n.tasks.Go(func() { f(n.background) })
}

// database returns the database once it is open.
func (n *Node) database() *store.DB {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.db
}

// close ends the background tasks and closes in reverse order what was opened.
func (n *Node) close() error {
	n.cancelBackground()
	n.tasks.Wait()
	n.mu.Lock()
	closers := n.closers
	n.closers = nil
	n.mu.Unlock() // what is still running may ask for the database
	var errs []error
	for _, c := range slices.Backward(closers) {
		errs = append(errs, c())
	}
	return errors.Join(errs...)
}
