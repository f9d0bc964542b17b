package main

import (
	"context"
	"database/sql"
	"log/slog"
	"net"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/testing/protocmp"
	_ "modernc.org/sqlite" // the driver "sqlite"

	billingv1 "example.com/rolecall/examples/billing/gen/billing/v1"
	ledgerv1 "example.com/rolecall/gen/ledger/v1"
	"example.com/rolecall/interceptors"
	"example.com/rolecall/interceptors/exactlyonce"
	"example.com/rolecall/interceptors/proof"
	"example.com/rolecall/rolecalltest"
)

// books is a ledger with one account.
type books struct {
	ledgerv1.UnimplementedLedgerServiceServer
}

func (books) GetBalance(_ context.Context, req *ledgerv1.GetBalanceRequest) (*ledgerv1.GetBalanceResponse, error) {
	if req.GetAccountId() != "rent" {
		return nil, status.Error(codes.NotFound, "no such account")
	}
	return &ledgerv1.GetBalanceResponse{Balance: &ledgerv1.Money{Currency: "EUR", MinorUnits: 1250}}, nil
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("listen: %v", err)
	}
	return lis
}

// newGuard makes a guard with a certificate for path; roles may be nil for one that only calls.
func newGuard(t *testing.T, ca *rolecalltest.CA, path string, roles interceptors.Bindings, options ...interceptors.Option) *interceptors.Guard {
	t.Helper()
	options = append(options, interceptors.Audit(slog.DiscardHandler))
	guard, err := interceptors.New(ca.Source(path), roles, options...)
	if err != nil {
		t.Fatalf("guard of %s: %v", path, err)
	}
	t.Cleanup(func() {
		if err := guard.Close(); err != nil {
			t.Errorf("close the guard of %s: %v", path, err)
		}
	})
	return guard
}

// startLedger serves books and returns the address.
func startLedger(t *testing.T, ca *rolecalltest.CA) string {
	t.Helper()
	// What methods of the ledger ask for beside roles, though none of them is called here.
	db, err := sql.Open("sqlite", filepath.Join(t.TempDir(), "ledger.db"))
	if err != nil {
		t.Fatalf("open a database: %v", err)
	}
	db.SetMaxOpenConns(1)
	t.Cleanup(func() { _ = db.Close() })
	once := exactlyonce.New(exactlyonce.Config{DB: exactlyonce.SQLite(db)})
	srv := newGuard(t, ca, "/service/ledger", interceptors.BindingsFile("roles.yaml"),
		interceptors.With(once), interceptors.With(proof.New(proof.Config{}))).NewServer()
	ledgerv1.RegisterLedgerServiceServer(srv, books{})
	lis := listen(t)
	done := make(chan error, 1)
	go func() { done <- srv.Serve(lis) }()
	t.Cleanup(func() {
		srv.Stop()
		if err := <-done; err != nil {
			t.Errorf("ledger: %v", err)
		}
	})
	return lis.Addr().String()
}

// startBilling serves billing and returns the address.
func startBilling(t *testing.T, ca *rolecalltest.CA, ledger string) string {
	t.Helper()
	lis := listen(t)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- serve(ctx, lis, ca.Source("/service/billing"), interceptors.BindingsFile("roles.yaml"), ledger)
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("billing: %v", err)
		}
	})
	return lis.Addr().String()
}

func TestBillingAnswersThoseWhoHoldItsRole(t *testing.T) {
	t.Parallel()
	ca := rolecalltest.NewCA(t, "mesh.local")
	address := startBilling(t, ca, startLedger(t, ca))

	for _, test := range []struct {
		name, caller, account string
		want                  *billingv1.GetStatementResponse
		code                  codes.Code
		reason                string
	}{
		{
			name: "an operator reads a statement", caller: "/operator/alice", account: "rent",
			want: &billingv1.GetStatementResponse{
				Text:    "spiffe://mesh.local/operator/alice: rent has 12.50 EUR",
				Balance: &ledgerv1.Money{Currency: "EUR", MinorUnits: 1250},
			},
		},
		{name: "a service without the role is refused", caller: "/service/orders", account: "rent", code: codes.PermissionDenied, reason: "ROLE_REQUIRED"},
		{name: "an account has to be named", caller: "/operator/alice", code: codes.InvalidArgument, reason: "INVALID_FIELD"},
		{name: "the ledger's own answer comes through", caller: "/operator/alice", account: "none", code: codes.NotFound},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			conn, err := newGuard(t, ca, test.caller, nil).NewClient(address, ca.ID("/service/billing"))
			if err != nil {
				t.Fatalf("connect: %v", err)
			}
			defer conn.Close()
			got, err := billingv1.NewBillingServiceClient(conn).GetStatement(t.Context(),
				&billingv1.GetStatementRequest{AccountId: test.account}, grpc.WaitForReady(true))
			if status.Code(err) != test.code || reason(err) != test.reason {
				t.Fatalf("GetStatement: %v with reason %q, want %v with reason %q", err, reason(err), test.code, test.reason)
			}
			if diff := cmp.Diff(test.want, got, protocmp.Transform()); diff != "" {
				t.Errorf("GetStatement (-want +got):\n%s", diff)
			}
		})
	}
}

// reason returns the reason of a refusal, "" where there is none.
func reason(err error) string {
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			return info.GetReason()
		}
	}
	return ""
}
