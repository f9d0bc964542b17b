package orders

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	ledgerv1 "example.com/rolecall/gen/ledger/v1"
	ordersv1 "example.com/rolecall/gen/orders/v1"
	rolecallv1 "example.com/rolecall/gen/rolecall/v1"
	"example.com/rolecall/interceptors"
	"example.com/rolecall/interceptors/exactlyonce"
)

// resume goes on with an order whose handler came to no end: orders was stopped or killed, or ledger did not answer, or could
// not verify a signed payment. That one is in the stored request, and is passed on again as long as its proof is good; each time
// once, because many may wait, and the attempts of a saga have pauses between them. For a payment of orders' own there is no user
// any more: what came of it is found out, and one that ledger has not made is not made any more. An error has it called again.
func (s *Service) resume(ctx context.Context, req *ordersv1.PlaceOrderRequest) (*ordersv1.PlaceOrderResponse, error) {
	saga := exactlyonce.SagaFrom(ctx)
	o, err := s.orders.get(ctx, orderID(saga))
	if err != nil {
		return nil, fmt.Errorf("read order %s: %w", orderID(saga), err)
	}
	var settled outcome
	if s.stillGood(&o, req.GetPayment()) {
		settled, err = s.pay(ctx, o, s.passOn(req.GetPayment(), 0))
	} else {
		settled, err = s.settle(ctx, o, false)
		settled.failure = "the payment was cancelled: orders was interrupted, and ledger had not made it"
		if o.payment.signed() {
			settled.failure = "the payment was cancelled: ledger had not made it, and its proof is not good any more"
		}
	}
	if err != nil {
		return nil, fmt.Errorf("settle the payment of order %s: %w", o.id, err)
	}
	return s.finish(ctx, saga, o, settled)
}

// stillGood tells whether an order that was read is to be paid by a payment of which the proof is good, and reads until when.
func (s *Service) stillGood(o *order, signed *rolecallv1.SignedRequest) bool {
	if signed == nil {
		return false
	}
	p, err := newPayment(signed, *o, s.id)
	if err != nil || p.request != o.payment.request || p.signer != o.payment.signer {
		return false // stored by an older version: ledger's answer would not be found again by what the row says
	}
	o.payment.expires = p.expires
	return p.good(s.now())
}

// errStillGood is about a payment that ledger has not made, and that is passed on again.
var errStillGood = errors.New("ledger has not made the payment, and its proof is still good")

// settle asks ledger for the transfer of an order, and if there is none, forbids it: a request that is still on its way is
// refused when it arrives. One that is still good is not forbidden, which is errStillGood. Both reach only what orders has sent
// itself, so they are asked on behalf of nobody.
func (s *Service) settle(ctx context.Context, o order, stillGood bool) (outcome, error) {
	ctx, cancel := context.WithTimeout(interceptors.AsUser(ctx, ""), peerTimeout)
	defer cancel()
	user := ""
	if !o.payment.signed() {
		user = "user:" + o.username
	}
	found, err := s.ledger.GetTransfer(ctx, &ledgerv1.GetTransferRequest{RequestId: o.payment.request, Signer: o.payment.signer, User: user})
	transfer := found.GetTransfer()
	if status.Code(err) == codes.NotFound {
		if stillGood {
			return outcome{}, errStillGood
		}
		var answer *ledgerv1.CancelTransferResponse
		answer, err = s.ledger.CancelTransfer(ctx, &ledgerv1.CancelTransferRequest{RequestId: o.payment.request, Signer: o.payment.signer, User: user})
		if transfer = answer.GetTransfer(); err == nil && transfer == nil {
			return outcome{}, nil
		}
	}
	if o.payment.signed() && refusesSigner(err) {
		return outcome{}, nil
	}
	if err != nil {
		return outcome{}, err
	}
	return outcome{transfer: transfer}, o.isPaidBy(transfer)
}

// refusesSigner tells whether ledger says that no workload is called as the signer in a question. It has made no transfer for
// one, and never will: a signer of a transfer is one that it has verified, by a key that the keys service knows under that
// name. An INVALID_ARGUMENT about anything else says nothing of the payment.
func refusesSigner(err error) bool {
	if status.Code(err) != codes.InvalidArgument {
		return false
	}
	for _, detail := range status.Convert(err).Details() {
		if bad, ok := detail.(*errdetails.BadRequest); ok && len(bad.GetFieldViolations()) == 1 {
			return bad.GetFieldViolations()[0].GetField() == "signer"
		}
	}
	return false
}

// isPaidBy returns an error if ledger names a transfer that is not the payment of the order: what it has verified of the
// signer counts, and not what the proof claims.
func (o order) isPaidBy(t *ledgerv1.TransferRecord) error {
	if t.GetTransferId() == "" || o.payment.signed() && t.GetSigner() != o.payment.signer ||
		t.GetFromAccount() != o.payingAccount || t.GetToAccount() != o.receivingAccount ||
		t.GetAmount().GetCurrency() != o.currency || t.GetAmount().GetMinorUnits() != o.minorUnits {
		return fmt.Errorf("ledger names the transfer %q of %q, which is not the payment of order %s", t.GetTransferId(), t.GetSigner(), o.id)
	}
	return nil
}
