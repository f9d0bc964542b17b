package orders

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	ledgerv1 "example.com/rolecall/gen/ledger/v1"
	ordersv1 "example.com/rolecall/gen/orders/v1"
	usersv1 "example.com/rolecall/gen/users/v1"
)

const (
	// peerTimeout bounds a call to another service.
	peerTimeout = 5 * time.Second
	// outcomeTimeout bounds how long the outcome of a payment may take to be stored.
	outcomeTimeout = 5 * time.Second
)

// PlaceOrder orders for the user on whose behalf the call is made, pays, and stores the outcome. Ledger is asked on her behalf
// too, and checks that the paying account is hers. From the payment on it no longer ends with the caller, who
// could otherwise leave money moved and the order PENDING.
//
// An unknown user is NOT_FOUND and a disabled one FAILED_PRECONDITION; nothing is stored then. An order that ledger
// refused to pay is FAILED and answered without an error. If it is not known whether ledger paid, the order stays PENDING,
// and the error says so and names it: DEADLINE_EXCEEDED if ledger took too long, else UNKNOWN.
func (s *Service) PlaceOrder(ctx context.Context, req *ordersv1.PlaceOrderRequest) (*ordersv1.PlaceOrderResponse, error) {
	o, err := newOrder(req, customer(ctx))
	if err != nil {
		return nil, err
	}
	if err := s.checkUser(ctx, o.username); err != nil {
		return nil, err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return nil, s.status(ctx, "place order", err)
	}
	o.id, o.created, o.state = id.String(), s.now(), ordersv1.Order_STATE_PENDING
	if err := s.orders.add(ctx, o); err != nil {
		return nil, s.status(ctx, "place order", err)
	}
	ctx = context.WithoutCancel(ctx)
	transfer, err := s.pay(ctx, o)
	switch {
	case err == nil:
		o.state, o.transfer = ordersv1.Order_STATE_PAID, transfer
	case refused(status.Code(err)):
		o.state, o.failure = ordersv1.Order_STATE_FAILED, failure(err)
	default:
		s.log.LogAttrs(ctx, slog.LevelWarn, "order stays PENDING: no answer about its payment", slog.String("order_id", o.id), slog.Any("error", err))
		return nil, status.Errorf(unknownOutcome(status.Code(err)), "order %s stays PENDING: whether it was paid is not known; read it again later", o.id)
	}
	settle, cancel := context.WithTimeout(ctx, outcomeTimeout)
	defer cancel()
	if err := s.orders.settle(settle, o); err != nil {
		s.log.LogAttrs(ctx, slog.LevelError, "order stays PENDING: its outcome could not be stored", slog.String("order_id", o.id),
			slog.String("state", o.state.String()), slog.String("transfer_id", o.transfer), slog.Any("error", err))
		return nil, status.Errorf(codes.Unknown, "order %s stays PENDING: ledger has answered, but that could not be stored; read it again later", o.id)
	}
	return &ordersv1.PlaceOrderResponse{Order: o.message()}, nil
}

// checkUser asks users. What users says about this service, such as a role that it lacks, is not the caller's business:
// its own roles were enough.
func (s *Service) checkUser(ctx context.Context, username string) error {
	ctx, cancel := context.WithTimeout(ctx, peerTimeout)
	defer cancel()
	answer, err := s.users.Get(ctx, &usersv1.GetRequest{Username: username})
	switch code := status.Code(err); code {
	case codes.OK:
		if answer.GetUser().GetDisabled() {
			return status.Errorf(codes.FailedPrecondition, "user %s is disabled", username)
		}
		return nil
	case codes.NotFound:
		return status.Errorf(codes.NotFound, "there is no user %s", username)
	case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled:
		s.log.LogAttrs(ctx, slog.LevelWarn, "no answer from users", slog.Any("error", err))
		return status.Error(code, "users does not answer: nothing was ordered, try again later")
	default:
		s.log.LogAttrs(ctx, slog.LevelError, "users refuses to answer", slog.Any("error", err))
		return status.Errorf(codes.Internal, "users refuses to answer this service (%s): nothing was ordered", code)
	}
}

func (s *Service) pay(ctx context.Context, o order) (transfer string, err error) {
	ctx, cancel := context.WithTimeout(ctx, peerTimeout)
	defer cancel()
	answer, err := s.ledger.Transfer(ctx, &ledgerv1.TransferRequest{
		FromAccount: o.payingAccount, ToAccount: o.receivingAccount,
		Amount: &ledgerv1.Money{Currency: o.currency, MinorUnits: o.minorUnits},
		Note:   "order " + o.id,
	})
	return answer.GetTransfer().GetTransferId(), err
}

// refused says whether a code of ledger means that no money has moved. All others leave it open: UNAVAILABLE and
// DEADLINE_EXCEEDED may hide an answer that was lost, INTERNAL and UNKNOWN a commit that took place.
func refused(code codes.Code) bool {
	switch code {
	case codes.InvalidArgument, codes.NotFound, codes.FailedPrecondition, codes.OutOfRange,
		codes.PermissionDenied, codes.Unauthenticated, codes.ResourceExhausted, codes.Unimplemented:
		return true
	default:
		return false
	}
}

// unknownOutcome is the code for a caller whose order stays PENDING. UNAVAILABLE would invite its gRPC library to place
// the same order once more.
func unknownOutcome(code codes.Code) codes.Code {
	if code == codes.DeadlineExceeded {
		return code
	}
	return codes.Unknown
}

// maxFailure is how many bytes of ledger's own words are kept.
const maxFailure = 500

// failure is what is kept about a refused payment.
func failure(err error) string {
	s := status.Convert(err)
	message := s.Message()
	if len(message) > maxFailure {
		message = message[:maxFailure]
	}
	return fmt.Sprintf("ledger refused: %s: %q", s.Code(), message)
}
