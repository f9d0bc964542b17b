package rolecalltest_test

import (
	"context"
	"database/sql"
	"log/slog"
	"net"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	_ "modernc.org/sqlite"

	ledgerv1 "example.com/rolecall/gen/ledger/v1"
	"example.com/rolecall/interceptors"
	"example.com/rolecall/interceptors/exactlyonce"
	"example.com/rolecall/interceptors/proof"
	"example.com/rolecall/rolecalltest"
)

// once returns what keeps the answers of methods with exactly_once, in a database of the test's own.
func once(t *testing.T) interceptors.Feature {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(t.TempDir(), "once.db")+"?_txlock=immediate")
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(1)
	t.Cleanup(func() { _ = db.Close() })
	return exactlyonce.New(exactlyonce.Config{DB: exactlyonce.SQLite(db)})
}

// payments is a service that tells by whom a transfer was signed and who brought it.
type payments struct {
	ledgerv1.UnimplementedLedgerServiceServer
}

func (payments) Transfer(ctx context.Context, _ *ledgerv1.TransferRequest) (*ledgerv1.TransferResponse, error) {
	caller := interceptors.CallerFrom(ctx)
	signer, _ := caller.Signer()
	return &ledgerv1.TransferResponse{Transfer: &ledgerv1.TransferRecord{TransferId: signer.Path() + " by " + caller.ID().Path()}}, nil
}

func TestAServiceIsTestedWithSignedRequests(t *testing.T) {
	t.Parallel()
	ca := rolecalltest.NewCA(t, "mesh.local")
	keys := rolecalltest.NewKeys(ca)
	const roles = `
trustDomain: mesh.local
bindings:
  - role: ledger.writer
    members: [spiffe://mesh.local/service/shop, spiffe://mesh.local/operator/alice]
`
	// guarded returns a guard that signs and verifies.
	guarded := func(path string, features ...interceptors.Option) (*interceptors.Guard, *proof.Feature) {
		t.Helper()
		signs := keys.Feature()
		guard, err := interceptors.New(ca.Source(path), interceptors.BindingsYAML([]byte(roles)), append(features, interceptors.With(signs),
			interceptors.Audit(slog.DiscardHandler), interceptors.Logger(slog.New(slog.DiscardHandler)))...)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = guard.Close() })
		return guard, signs
	}
	guard, _ := guarded("/service/ledger", interceptors.With(once(t)))
	server := guard.NewServer()
	ledgerv1.RegisterLedgerServiceServer(server, payments{})
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = server.Serve(lis) }()
	ledger := ca.ID("/service/ledger")
	dial := func(guard *interceptors.Guard) *grpc.ClientConn {
		t.Helper()
		conn, err := guard.NewClient(lis.Addr().String(), ledger)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		return conn
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()

	shop, _ := guarded("/service/shop")
	toLedger := dial(shop)
	answer, err := ledgerv1.NewLedgerServiceClient(toLedger).Transfer(ctx, &ledgerv1.TransferRequest{})
	if got := answer.GetTransfer().GetTransferId(); err != nil || got != "/service/shop by /service/shop" {
		t.Errorf("signed by who calls: %q, %v", got, err)
	}

	// alice signs, and the shop passes it on.
	_, alice := guarded("/operator/alice")
	if err := alice.Announced(ctx); err != nil {
		t.Fatal(err)
	}
	signed, err := alice.Signer().Sign(ledger, &ledgerv1.TransferRequest{RequestId: "6a8b1b7e-4a5e-4a39-9d0e-4f2f0c1d2e3f"}, ledgerv1.LedgerService_Transfer_FullMethodName)
	if err != nil {
		t.Fatal(err)
	}
	response, err := proof.Forward(ctx, toLedger, signed)
	if err != nil {
		t.Fatalf("forward: %v", err)
	}
	if err := alice.VerifyReceipt(ctx, signed, response); err != nil {
		t.Errorf("receipt: %v", err)
	}

	// Who has no feature signs nothing.
	unsigned, err := interceptors.New(ca.Source("/service/shop"), nil, interceptors.Audit(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unsigned.Close() })
	if _, err := ledgerv1.NewLedgerServiceClient(dial(unsigned)).Transfer(ctx, &ledgerv1.TransferRequest{}); status.Code(err) != codes.Unauthenticated {
		t.Errorf("not signed: got %v, want %s", err, codes.Unauthenticated)
	}
}
