package main

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	_ "modernc.org/sqlite" // the driver "sqlite"

	ledgerv1 "example.com/rolecall/gen/ledger/v1"
	"example.com/rolecall/interceptors"
	"example.com/rolecall/interceptors/exactlyonce"
	"example.com/rolecall/interceptors/proof"
	"example.com/rolecall/rolecalltest"
)

const (
	serverPath = "/service/ledger"
	clientPath = "/service/reader"
)

// workloads are a server and a client of one trust domain, with chains as a real mesh has them: leaf, issuer, root.
type workloads struct {
	server, client *rolecalltest.Source
	serverID       spiffeid.ID
}

// instead of a test: rolecalltest reports to one that something cannot be.
type instead struct{ testing.TB }

func (instead) Helper() {}
func (instead) Fatalf(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "bench: "+format+"\n", args...)
	os.Exit(1)
}

func newWorkloads() *workloads {
	ca := rolecalltest.NewCA(instead{}, "mesh.local")
	issuer, issuerKey := ca.Intermediate()
	source := func(path string) *rolecalltest.Source {
		s := ca.Source(path)
		leaf, key := ca.IssueUnder(issuer, issuerKey, path)
		s.Use(key, leaf, issuer)
		return s
	}
	return &workloads{server: source(serverPath), client: source(clientPath), serverID: ca.ID(serverPath)}
}

// bareServer returns the credentials of go-spiffe for a server that takes any workload of its trust domain.
func (w *workloads) bareServer() credentials.TransportCredentials {
	return credentials.NewTLS(tlsconfig.MTLSServerConfig(w.server, w.server, tlsconfig.AuthorizeMemberOf(w.serverID.TrustDomain())))
}

// bareClient returns the credentials of go-spiffe for a client of the one server.
func (w *workloads) bareClient() credentials.TransportCredentials {
	return credentials.NewTLS(tlsconfig.MTLSClientConfig(w.client, w.client, tlsconfig.AuthorizeID(w.serverID)))
}

// ledger answers at once with as much as it was asked for.
type ledger struct {
	ledgerv1.UnimplementedLedgerServiceServer
	entered func(context.Context) // nil: nothing
	stack   int                   // KiB of stack that a call needs, as one that uses a database does
}

func (l *ledger) GetBalance(ctx context.Context, req *ledgerv1.GetBalanceRequest) (*ledgerv1.GetBalanceResponse, error) {
	if l.entered != nil {
		l.entered(ctx)
	}
	descend(l.stack)
	return &ledgerv1.GetBalanceResponse{Balance: &ledgerv1.Money{Currency: req.GetAccountId(), MinorUnits: 1250}}, nil
}

// descend uses so many KiB of stack.
//
//go:noinline
func descend(kib int) byte {
	if kib == 0 {
		return 0
	}
	var frame [1024]byte
	frame[kib%len(frame)] = descend(kib - 1)
	return frame[len(frame)-1]
}

// place is a server on loopback and what a client needs to reach it.
type place struct {
	address string
	dial    func() (*grpc.ClientConn, error)
	close   func() error
}

type server interface {
	grpc.ServiceRegistrar
	Serve(net.Listener) error
	Stop()
}

// serve registers a service and starts srv on a free port of loopback.
func serve(srv server, register func(grpc.ServiceRegistrar)) (address string, stop func() error, err error) {
	register(srv)
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, fmt.Errorf("listen: %w", err)
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(lis) }()
	return lis.Addr().String(), func() error {
		srv.Stop()
		return <-served
	}, nil
}

// bare is go-spiffe's mutual TLS under gRPC and nothing else.
func (w *workloads) bare(service ledgerv1.LedgerServiceServer, opts ...grpc.ServerOption) (*place, error) {
	return w.bareOf(func(r grpc.ServiceRegistrar) { ledgerv1.RegisterLedgerServiceServer(r, service) }, opts...)
}

func (w *workloads) bareOf(register func(grpc.ServiceRegistrar), opts ...grpc.ServerOption) (*place, error) {
	address, stop, err := serve(grpc.NewServer(append([]grpc.ServerOption{grpc.Creds(w.bareServer())}, opts...)...), register)
	if err != nil {
		return nil, err
	}
	return &place{
		address: address,
		dial: func() (*grpc.ClientConn, error) {
			return grpc.NewClient(address, grpc.WithTransportCredentials(w.bareClient()))
		},
		close: stop,
	}, nil
}

// guarded is a guard's server and client. The caller holds the role that GetBalance requires, in a bindings file in
// which other workloads make up the rest of n bindings.
func (w *workloads) guarded(n int, service ledgerv1.LedgerServiceServer, opts ...grpc.ServerOption) (_ *place, err error) {
	dir, err := os.MkdirTemp("", "rolecall-bench-")
	if err != nil {
		return nil, err
	}
	opened := closers{func() error { return os.RemoveAll(dir) }}
	defer func() {
		if err != nil {
			err = errors.Join(err, opened.close())
		}
	}()
	roles := filepath.Join(dir, "roles.yaml")
	if err := os.WriteFile(roles, bindings(n), 0o600); err != nil {
		return nil, err
	}
	// Other methods of the ledger ask for these; the one that is called does not, and pays nothing for them.
	db, err := sql.Open("sqlite", filepath.Join(dir, "ledger.db"))
	if err != nil {
		return nil, err
	}
	opened = append(opened, db.Close)
	db.SetMaxOpenConns(1)
	once := exactlyonce.New(exactlyonce.Config{DB: exactlyonce.SQLite(db)})
	serving, err := interceptors.New(w.server, interceptors.BindingsFile(roles), interceptors.With(once), interceptors.With(proof.New(proof.Config{})))
	if err != nil {
		return nil, err
	}
	opened = append(opened, serving.Close)
	calling, err := interceptors.New(w.client, nil, interceptors.With(proof.New(proof.Config{})))
	if err != nil {
		return nil, err
	}
	opened = append(opened, calling.Close)
	address, stop, err := serve(serving.NewServer(opts...), func(r grpc.ServiceRegistrar) { ledgerv1.RegisterLedgerServiceServer(r, service) })
	if err != nil {
		return nil, err
	}
	opened = append(opened, stop)
	return &place{
		address: address,
		dial:    func() (*grpc.ClientConn, error) { return calling.NewClient(address, w.serverID) },
		close:   func() error { return opened.close() },
	}, nil
}

// closers are run in reverse order.
type closers []func() error

func (c closers) close() error {
	var errs []error
	for _, f := range slices.Backward(c) {
		errs = append(errs, f())
	}
	return errors.Join(errs...)
}

// bindings returns a roles.yaml of n bindings, the last of which gives the client the role ledger.reader.
func bindings(n int) []byte {
	var b bytes.Buffer
	b.WriteString("trustDomain: mesh.local\nbindings:\n")
	for i := range n - 1 {
		fmt.Fprintf(&b, "  - role: ledger.reader\n    members: [spiffe://mesh.local/service/other-%d]\n", i)
	}
	b.WriteString("  - role: ledger.reader\n    members: [spiffe://mesh.local" + clientPath + "]\n")
	return b.Bytes()
}
