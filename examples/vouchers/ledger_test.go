package main

import (
	"context"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	ledgerv1 "example.com/rolecall/gen/ledger/v1"
	"example.com/rolecall/interceptors"
	"example.com/rolecall/interceptors/exactlyonce"
	"example.com/rolecall/rolecalltest"
)

// books is a ledger that pays to every account but "closed", and that may be down.
type books struct {
	ledgerv1.UnimplementedLedgerServiceServer
	once    *exactlyonce.Requests
	down    atomic.Bool
	returns atomic.Bool // with the next transfer, and not between a transfer and its cancellation
	paid    atomic.Int64
}

func (b *books) Transfer(ctx context.Context, req *ledgerv1.TransferRequest) (*ledgerv1.TransferResponse, error) {
	if b.returns.Load() {
		b.down.Store(false)
	}
	if b.down.Load() {
		return nil, status.Error(codes.Unavailable, "the ledger is down")
	}
	if req.GetToAccount() == "closed" {
		return nil, status.Error(codes.FailedPrecondition, "the account is closed")
	}
	exactlyonce.Afterwards(ctx, func(error) { b.paid.Add(req.GetAmount().GetMinorUnits()) })
	return &ledgerv1.TransferResponse{Transfer: &ledgerv1.TransferRecord{TransferId: "t-" + req.GetRequestId()}}, nil
}

func (b *books) CancelTransfer(ctx context.Context, req *ledgerv1.CancelTransferRequest) (*ledgerv1.CancelTransferResponse, error) {
	if b.down.Load() {
		return nil, status.Error(codes.Unavailable, "the ledger is down")
	}
	peer := interceptors.CallerFrom(ctx).ID().String()
	stands, err := b.once.Cancel(ctx, exactlyonce.Key{
		Method: ledgerv1.LedgerService_Transfer_FullMethodName, Peer: peer, Signer: peer, RequestID: req.GetRequestId(),
	}, status.New(codes.FailedPrecondition, "cancelled"))
	if err != nil || stands.Refusal != nil {
		return &ledgerv1.CancelTransferResponse{}, err
	}
	return &ledgerv1.CancelTransferResponse{Transfer: &ledgerv1.TransferRecord{TransferId: "t-" + req.GetRequestId()}}, nil
}

// startLedger serves books and returns the address.
func startLedger(t *testing.T, ca *rolecalltest.CA, keys *rolecalltest.Keys) (*books, string) {
	t.Helper()
	b := &books{once: exactlyonce.New(exactlyonce.Config{DB: exactlyonce.SQLite(open(t))})}
	guard := newGuard(t, ca, "/service/ledger", interceptors.BindingsFile("roles.yaml"), interceptors.With(keys.Feature()), interceptors.With(b.once))
	srv := guard.NewServer()
	ledgerv1.RegisterLedgerServiceServer(srv, b)
	lis := listen(t)
	done := make(chan error, 1)
	go func() { done <- srv.Serve(lis) }()
	t.Cleanup(func() {
		srv.Stop()
		if err := <-done; err != nil {
			t.Errorf("ledger: %v", err)
		}
	})
	return b, lis.Addr().String()
}
