package main

import (
	"context"
	"log/slog"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	vouchersv1 "example.com/rolecall/examples/vouchers/gen/vouchers/v1"
	ledgerv1 "example.com/rolecall/gen/ledger/v1"
	"example.com/rolecall/interceptors"
	"example.com/rolecall/interceptors/exactlyonce"
)

// Exchange calls another service, so it is a saga: the amount is off the voucher before the ledger is asked, and goes back if
// the ledger has not paid.
func (v *vouchers) Exchange(ctx context.Context, req *vouchersv1.ExchangeRequest) (*vouchersv1.ExchangeResponse, error) {
	if req.GetCents() <= 0 {
		return nil, interceptors.InvalidField("cents", "must be more than zero")
	}
	err := exactlyonce.SagaFrom(ctx).Begin(ctx, func(ctx context.Context) error {
		_, err := take(ctx, req.GetVoucherId(), req.GetCents())
		return err
	})
	if err != nil {
		return nil, err
	}
	return v.pay(ctx, req)
}

// pay is the rest of the saga: in the handler, and again after a crash or an error until it has ended with Finish or Refuse.
func (v *vouchers) pay(ctx context.Context, req *vouchersv1.ExchangeRequest) (*vouchersv1.ExchangeResponse, error) {
	saga := exactlyonce.SagaFrom(ctx)
	// On behalf of nobody: later attempts have no user, and the ledger must see the same request each time.
	ctx = interceptors.AsUser(ctx, "")
	id := saga.Child("pay") // the same request_id at each attempt: the ledger pays once
	paid, refusal := v.ledger.Transfer(ctx, &ledgerv1.TransferRequest{
		FromAccount: v.account, ToAccount: req.GetAccountId(),
		Amount: &ledgerv1.Money{Currency: "EUR", MinorUnits: req.GetCents()}, RequestId: id,
	})
	transfer := paid.GetTransfer()
	if refusal != nil { // that of this attempt: an earlier one may have been answered otherwise
		settled, err := v.ledger.CancelTransfer(ctx, &ledgerv1.CancelTransferRequest{RequestId: id})
		if err != nil {
			return nil, status.Error(codes.Unavailable, "whether the ledger has paid is not known yet: send the same request again")
		}
		transfer = settled.GetTransfer()
	}
	if refusal != nil && transfer == nil { // and there will never be one
		return nil, saga.Refuse(ctx, unpaid(ctx, refusal), func(ctx context.Context) error {
			_, err := take(ctx, req.GetVoucherId(), -req.GetCents())
			return err
		})
	}
	answer := &vouchersv1.ExchangeResponse{TransferId: transfer.GetTransferId()}
	return answer, saga.Finish(ctx, answer, nil)
}

// unpaid is the refusal that is stored and sent. What the ledger has said goes to the log: it is not this service's to pass on,
// and bytes that are no text could not be stored.
func unpaid(ctx context.Context, refusal error) error {
	slog.InfoContext(ctx, "the ledger has not paid", "error", refusal)
	return status.Errorf(codes.FailedPrecondition, "the ledger has not paid: %s", status.Code(refusal))
}
