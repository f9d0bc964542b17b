// Command vouchers is a service of somebody who adopts signed requests and exactly once: tills redeem vouchers with requests
// that they sign, and no voucher is redeemed twice because an answer was lost.
//
//	bin/rolecall run --id spiffe://mesh.local/service/vouchers -- go run ./examples/vouchers --account ACCOUNT
//
// The README beside it has the whole tour.
package main

import (
	"context"
	"database/sql"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"syscall"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
	"google.golang.org/grpc/reflection"
	_ "modernc.org/sqlite" // the driver "sqlite"

	vouchersv1 "example.com/rolecall/examples/vouchers/gen/vouchers/v1"
	ledgerv1 "example.com/rolecall/gen/ledger/v1"
	"example.com/rolecall/interceptors"
	"example.com/rolecall/interceptors/exactlyonce"
	"example.com/rolecall/interceptors/proof"
)

// config says where everything is.
type config struct {
	trustDomain, ledger, keys, account, db string
}

func main() {
	var cfg config
	listen := flag.String("listen", "localhost:7451", "`address` to serve on")
	roles := flag.String("roles", ".rolecall/roles.yaml", "`file` that says who holds which role")
	flag.StringVar(&cfg.trustDomain, "trust-domain", "mesh.local", "`name` of the trust domain")
	flag.StringVar(&cfg.ledger, "ledger", "dns:///localhost:7445", "`target` of the ledger")
	flag.StringVar(&cfg.keys, "keys", "dns:///localhost:7442", "`target` of the key server")
	flag.StringVar(&cfg.account, "account", "", "`account` of the ledger that exchanged vouchers are paid from")
	flag.StringVar(&cfg.db, "db", "vouchers.db", "`file` of the database")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *listen, interceptors.BindingsFile(*roles), cfg); err != nil {
		fmt.Fprintln(os.Stderr, "vouchers:", err)
		os.Exit(1)
	}
}

// run serves with a certificate from the Workload API until ctx ends.
func run(ctx context.Context, listen string, roles interceptors.Bindings, cfg config) (err error) {
	source, err := workloadapi.NewX509Source(ctx)
	if err != nil {
		return fmt.Errorf("get a certificate from the Workload API: %w", err)
	}
	defer func() { err = errors.Join(err, source.Close()) }()
	lis, err := net.Listen("tcp", listen)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	fmt.Println("vouchers serves on", lis.Addr())
	return serve(ctx, lis, source, roles, cfg)
}

// serve answers calls on lis until ctx ends. It closes lis.
func serve(ctx context.Context, lis net.Listener, source interceptors.Source, roles interceptors.Bindings, cfg config) (err error) {
	defer lis.Close()
	td, err := spiffeid.TrustDomainFromString(cfg.trustDomain)
	if err != nil {
		return err
	}
	// One connection, which is the queue of those who write.
	db, err := sql.Open("sqlite", cfg.db+"?_txlock=immediate&_pragma=busy_timeout(5000)")
	if err != nil {
		return err
	}
	db.SetMaxOpenConns(1)
	defer func() { err = errors.Join(err, db.Close()) }()
	if _, err := db.ExecContext(ctx, schema); err != nil {
		return fmt.Errorf("make the table in %s: %w", cfg.db, err)
	}

	proofs := proof.New(proof.Config{Target: cfg.keys, Server: spiffeid.RequireFromPath(td, "/service/keys")})
	once := exactlyonce.New(exactlyonce.Config{DB: exactlyonce.SQLite(db)})
	guard, err := interceptors.New(source, roles, interceptors.With(proofs), interceptors.With(once))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, guard.Close()) }() // before the database is

	conn, err := guard.NewClient(cfg.ledger, spiffeid.RequireFromPath(td, "/service/ledger"))
	if err != nil {
		return fmt.Errorf("connect to the ledger: %w", err)
	}
	defer func() { err = errors.Join(err, conn.Close()) }()

	v := &vouchers{db: db, ledger: ledgerv1.NewLedgerServiceClient(conn), account: cfg.account}
	exactlyonce.OnResume(once, vouchersv1.VouchersService_Exchange_FullMethodName, v.pay) // before srv.Serve
	srv := guard.NewServer()
	vouchersv1.RegisterVouchersServiceServer(srv, v)
	reflection.Register(srv) // for rolecall call, which does not know the proto file
	defer context.AfterFunc(ctx, srv.GracefulStop)()
	return srv.Serve(lis)
}
