package main

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"log/slog"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	vouchersv1 "example.com/rolecall/examples/vouchers/gen/vouchers/v1"
	ledgerv1 "example.com/rolecall/gen/ledger/v1"
	"example.com/rolecall/interceptors"
	"example.com/rolecall/interceptors/exactlyonce"
)

// schema is the service's own table. Those of exactlyonce come beside it.
const schema = `CREATE TABLE IF NOT EXISTS vouchers (voucher_id TEXT NOT NULL PRIMARY KEY, cents INTEGER NOT NULL CHECK (cents >= 0))`

// vouchers answers vouchers.v1.VouchersService.
type vouchers struct {
	vouchersv1.UnimplementedVouchersServiceServer
	db      *sql.DB
	ledger  ledgerv1.LedgerServiceClient
	account string // of the ledger, that exchanged vouchers are paid from
}

// Issue stores a voucher together with the answer: whoever sends the same request again gets this one, and not another.
func (*vouchers) Issue(ctx context.Context, req *vouchersv1.IssueRequest) (*vouchersv1.IssueResponse, error) {
	if req.GetCents() <= 0 {
		return nil, interceptors.InvalidField("cents", "must be more than zero")
	}
	issued := &vouchersv1.Voucher{VoucherId: rand.Text(), Cents: req.GetCents()}
	_, err := exactlyonce.Tx(ctx).ExecContext(ctx, "INSERT INTO vouchers (voucher_id, cents) VALUES ($1, $2)", issued.GetVoucherId(), issued.GetCents())
	if err != nil {
		return nil, internal(ctx, err)
	}
	return &vouchersv1.IssueResponse{Voucher: issued}, nil
}

// Redeem runs once for a request, however often that comes, and in one transaction with the answer.
func (*vouchers) Redeem(ctx context.Context, req *vouchersv1.RedeemRequest) (*vouchersv1.RedeemResponse, error) {
	if req.GetCents() <= 0 {
		return nil, interceptors.InvalidField("cents", "must be more than zero")
	}
	left, err := take(ctx, req.GetVoucherId(), req.GetCents())
	if err != nil {
		return nil, err
	}
	signer, _ := interceptors.CallerFrom(ctx).Signer()
	return &vouchersv1.RedeemResponse{Voucher: left, RedeemedBy: signer.String()}, nil
}

// take takes an amount off a voucher, in the open transaction.
func take(ctx context.Context, id string, cents int64) (*vouchersv1.Voucher, error) {
	left := &vouchersv1.Voucher{VoucherId: id}
	err := exactlyonce.Tx(ctx).QueryRowContext(ctx,
		"UPDATE vouchers SET cents = cents - $1 WHERE voucher_id = $2 AND cents >= $1 RETURNING cents", cents, id).Scan(&left.Cents)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, status.Error(codes.FailedPrecondition, "there is no such voucher, or not so much is left of it")
	}
	if err != nil {
		return nil, internal(ctx, err)
	}
	return left, nil
}

// GetVoucher reads a voucher.
func (v *vouchers) GetVoucher(ctx context.Context, req *vouchersv1.GetVoucherRequest) (*vouchersv1.GetVoucherResponse, error) {
	found := &vouchersv1.Voucher{VoucherId: req.GetVoucherId()}
	err := v.db.QueryRowContext(ctx, "SELECT cents FROM vouchers WHERE voucher_id = $1", found.GetVoucherId()).Scan(&found.Cents)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, status.Error(codes.NotFound, "there is no such voucher")
	}
	if err != nil {
		return nil, internal(ctx, err)
	}
	return &vouchersv1.GetVoucherResponse{Voucher: found}, nil
}

// internal keeps what the database has said for the log. A request that ended so may be sent again: nothing was stored.
func internal(ctx context.Context, err error) error {
	slog.ErrorContext(ctx, "database error", "error", err)
	return status.Error(codes.Internal, "the vouchers cannot be read or written")
}
