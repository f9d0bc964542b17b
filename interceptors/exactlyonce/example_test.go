package exactlyonce_test

import (
	"context"
	"database/sql"
	"errors"

	"github.com/spiffe/go-spiffe/v2/workloadapi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	ledgerv1 "example.com/rolecall/gen/ledger/v1"
	"example.com/rolecall/interceptors"
	"example.com/rolecall/interceptors/exactlyonce"
)

// books implement a service whose method Transfer has the annotation exactly_once.
type books struct {
	ledgerv1.UnimplementedLedgerServiceServer
}

// withdraw loads the balance of the account that pays, lowers it, and answers.
var withdraw = exactlyonce.Endpoint[*ledgerv1.TransferRequest, int64, *ledgerv1.TransferResponse]{
	Load: func(ctx context.Context, tx *sql.Tx, req *ledgerv1.TransferRequest) (balance int64, err error) {
		err = tx.QueryRowContext(ctx, "SELECT balance FROM accounts WHERE name = $1 FOR UPDATE", req.GetFromAccount()).Scan(&balance)
		if errors.Is(err, sql.ErrNoRows) {
			return 0, status.Error(codes.NotFound, "no such account")
		}
		return balance, err
	},
	Update: func(ctx context.Context, tx *sql.Tx, req *ledgerv1.TransferRequest, balance *int64) error {
		if *balance -= req.GetAmount().GetMinorUnits(); *balance < 0 {
			return status.Error(codes.FailedPrecondition, "the account has not got that much")
		}
		_, err := tx.ExecContext(ctx, "UPDATE accounts SET balance = $1 WHERE name = $2", *balance, req.GetFromAccount())
		return err
	},
	Respond: func(req *ledgerv1.TransferRequest, _ int64) *ledgerv1.TransferResponse {
		return &ledgerv1.TransferResponse{Transfer: &ledgerv1.TransferRecord{TransferId: req.GetRequestId()}}
	},
}

func (books) Transfer(ctx context.Context, req *ledgerv1.TransferRequest) (*ledgerv1.TransferResponse, error) {
	return withdraw.Handle(ctx, req)
}

func ExampleEndpoint() {
	run := func(ctx context.Context, db *sql.DB) error {
		source, err := workloadapi.NewX509Source(ctx)
		if err != nil {
			return err
		}
		once := exactlyonce.New(exactlyonce.Config{DB: exactlyonce.PostgreSQL(db)})
		guard, err := interceptors.New(source, interceptors.BindingsFile("roles.yaml"), interceptors.With(once))
		if err != nil {
			return err
		}
		defer guard.Close() //nolint:errcheck // before the database is
		server := guard.NewServer()
		ledgerv1.RegisterLedgerServiceServer(server, books{})
		return nil // and server.Serve(listener)
	}
	_ = run
}
