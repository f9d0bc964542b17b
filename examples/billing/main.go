// Command billing is a service of somebody who adopts rolecall: a proto file with annotations, a guard, and a handler.
// It answers those who hold billing.reader and asks the ledger of the mesh, which answers if billing holds ledger.reader.
//
//	bin/rolecall run --id spiffe://mesh.local/service/billing -- go run ./examples/billing
//
// The README beside it has the whole tour.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"syscall"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection"

	billingv1 "example.com/rolecall/examples/billing/gen/billing/v1"
	ledgerv1 "example.com/rolecall/gen/ledger/v1"
	"example.com/rolecall/interceptors"
)

func main() {
	listen := flag.String("listen", "localhost:7450", "`address` to serve on")
	roles := flag.String("roles", ".rolecall/roles.yaml", "`file` that says who holds which role")
	ledger := flag.String("ledger", "dns:///localhost:7445", "`target` of the ledger")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *listen, *roles, *ledger); err != nil {
		fmt.Fprintln(os.Stderr, "billing:", err)
		os.Exit(1)
	}
}

// run serves until ctx ends.
func run(ctx context.Context, listen, roles, ledger string) (err error) {
	// Where certificates come from: the Workload API at SPIFFE_ENDPOINT_SOCKET, which `rolecall run` sets.
	source, err := workloadapi.NewX509Source(ctx)
	if err != nil {
		return fmt.Errorf("get a certificate from the Workload API: %w", err)
	}
	defer func() { err = errors.Join(err, source.Close()) }()
	lis, err := net.Listen("tcp", listen)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	fmt.Println("billing serves on", lis.Addr())
	return serve(ctx, lis, source, interceptors.BindingsFile(roles), ledger)
}

// serve guards the service and answers calls on lis until ctx ends. It closes lis.
func serve(ctx context.Context, lis net.Listener, source interceptors.Source, roles interceptors.Bindings, ledger string) (err error) {
	defer lis.Close()
	guard, err := interceptors.New(source, roles)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, guard.Close()) }()

	ledgerID, err := peerID(source, "/service/ledger")
	if err != nil {
		return err
	}
	conn, err := guard.NewClient(ledger, ledgerID)
	if err != nil {
		return fmt.Errorf("connect to the ledger: %w", err)
	}
	defer func() { err = errors.Join(err, conn.Close()) }()

	srv := guard.NewServer()
	billingv1.RegisterBillingServiceServer(srv, &billing{ledger: ledgerv1.NewLedgerServiceClient(conn)})
	healthv1.RegisterHealthServer(srv, health.NewServer())
	reflection.Register(srv)
	defer context.AfterFunc(ctx, srv.GracefulStop)()
	return srv.Serve(lis)
}

// peerID returns the ID of another workload of the own trust domain.
func peerID(source interceptors.Source, path string) (spiffeid.ID, error) {
	svid, err := source.GetX509SVID()
	if err != nil {
		return spiffeid.ID{}, fmt.Errorf("read the own certificate: %w", err)
	}
	return spiffeid.FromPath(svid.ID.TrustDomain(), path)
}
