package orders

import (
	"context"
	"fmt"
	"log/slog"

	"google.golang.org/grpc/status"

	ledgerv1 "example.com/rolecall/gen/ledger/v1"
	rolecallv1 "example.com/rolecall/gen/rolecall/v1"
)

// outcome is what came of a payment, for good.
type outcome struct {
	transfer *ledgerv1.TransferRecord   // nil: ledger has not made it, and never will
	signed   *rolecallv1.SignedResponse // what ledger answered to a signed payment; nil if the answer was lost
	failure  string                     // why there is no transfer
}

// attempt has ledger make the payment of an order: ask, or what passOn returns.
type attempt func(ctx context.Context, o order) (outcome, error)

// pay has ledger make the payment of an order. An error says that nobody knows yet whether it was made, or that it may still be.
//
// No refusal of ledger is taken for the end: it may be that of a repetition by the client, or of an attempt that came after one
// whose answer was lost. What came of the payment is what ledger says when it is asked. Where it has no transfer, one of orders'
// own is cancelled, because without the user nobody can make it later. A signed one is not, as long as its proof is good and
// ledger has not judged it: an outage of a minute, or an attacker who makes one, must not cost anybody's payment.
func (s *Service) pay(ctx context.Context, o order, try attempt) (outcome, error) {
	bounded, cancel := context.WithTimeout(ctx, peerTimeout)
	defer cancel()
	result, err := try(bounded, o)
	if err == nil {
		return result, nil
	}
	s.log.LogAttrs(ctx, slog.LevelInfo, "asking ledger what came of a payment", slog.String("order_id", o.id), slog.Any("error", err))
	settled, unknown := s.settle(ctx, o, o.payment.signed() && undecided(err) && o.payment.good(s.now()))
	if unknown != nil {
		unknown = fmt.Errorf("%w; before that: %w", unknown, err)
	}
	settled.failure = cancelled(err)
	return settled, unknown
}

// ask asks for a transfer of orders' own, on behalf of the user.
func (s *Service) ask(ctx context.Context, o order) (outcome, error) {
	answer, err := s.ledger.Transfer(ctx, &ledgerv1.TransferRequest{
		FromAccount: o.payingAccount, ToAccount: o.receivingAccount,
		Amount: &ledgerv1.Money{Currency: o.currency, MinorUnits: o.minorUnits},
		Note:   "order " + o.id, RequestId: o.payment.request,
	})
	if err != nil {
		return outcome{}, err
	}
	return outcome{transfer: answer.GetTransfer()}, o.isPaidBy(answer.GetTransfer())
}

// maxFailure is how many bytes of ledger's own words are kept.
const maxFailure = 500

// cancelled is what is kept about a payment that was not made, for what ledger answered at first.
func cancelled(err error) string {
	s := status.Convert(err)
	message := s.Message()
	if len(message) > maxFailure {
		message = message[:maxFailure]
	}
	return fmt.Sprintf("the payment was cancelled: ledger answered %s: %q", s.Code(), message)
}
