package orders

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	ordersv1 "example.com/rolecall/gen/orders/v1"
	usersv1 "example.com/rolecall/gen/users/v1"
	"example.com/rolecall/interceptors/exactlyonce"
)

// peerTimeout bounds a call to another service.
const peerTimeout = 5 * time.Second

// PlaceOrder orders for the user on whose behalf the call is made, pays, and stores the outcome, once for each request_id. A
// payment that came signed goes to ledger as it is, on behalf of nobody; else ledger is asked on behalf of the user, and
// checks that the paying account is hers.
//
// An unknown user is NOT_FOUND, a disabled one FAILED_PRECONDITION, and a payment of another order ALREADY_EXISTS; no order
// is stored then. From the payment on it no longer ends with the caller. An order that was not paid is FAILED and answered
// without an error. While nobody can tell, because ledger does not answer, or cannot verify a payment whose proof is still good,
// the order is PENDING and the answer UNAVAILABLE: the worker goes on (see resume), and the same request gets the outcome later.
func (s *Service) PlaceOrder(ctx context.Context, req *ordersv1.PlaceOrderRequest) (*ordersv1.PlaceOrderResponse, error) {
	o, err := newOrder(req, customer(ctx), s.id)
	if err != nil {
		return nil, err
	}
	if err := s.checkUser(ctx, o.username); err != nil {
		return nil, err
	}
	saga := exactlyonce.SagaFrom(ctx)
	o.id, o.created, o.state = orderID(saga), s.now(), ordersv1.Order_STATE_PENDING
	if !o.payment.signed() {
		o.payment.request = saga.Child("payment")
	}
	if err := saga.Begin(ctx, func(ctx context.Context) error { return s.begin(ctx, o) }); err != nil {
		return nil, err
	}
	ctx = context.WithoutCancel(ctx)
	try := s.ask
	if o.payment.signed() {
		try = s.passOn(req.GetPayment(), longestWait)
	}
	result, err := s.pay(ctx, o, try)
	if err != nil {
		s.log.LogAttrs(ctx, slog.LevelWarn, "order is PENDING: no answer about its payment", slog.String("order_id", o.id), slog.Any("error", err))
		return nil, status.Errorf(codes.Unavailable, "order %s is PENDING: whether it was paid is being found out; send the same request again", o.id)
	}
	return s.finish(ctx, saga, o, result)
}

// orderID is the ID of the order that a request places: the same each time that it is asked for.
func orderID(saga *exactlyonce.Saga) string { return saga.Child("order") }

// begin stores a PENDING order together with its request.
func (s *Service) begin(ctx context.Context, o order) error {
	err := s.orders.add(ctx, o)
	switch {
	case errors.Is(err, errPlaced):
		return status.Errorf(codes.AlreadyExists, "order %s was placed with this request_id, so long ago that its answer is forgotten: read it", o.id)
	case errors.Is(err, errPaymentTaken):
		return status.Error(codes.AlreadyExists, "the payment belongs to another order: have one signed with a request_id of its own")
	}
	return s.status(ctx, "place order", err)
}

// finish stores what came of an order together with the answer to its request.
func (s *Service) finish(ctx context.Context, saga *exactlyonce.Saga, o order, result outcome) (*ordersv1.PlaceOrderResponse, error) {
	if result.transfer != nil {
		o.state, o.transfer = ordersv1.Order_STATE_PAID, result.transfer.GetTransferId()
	} else {
		o.state, o.failure = ordersv1.Order_STATE_FAILED, result.failure
	}
	answer := &ordersv1.PlaceOrderResponse{Order: o.message(), Payment: result.signed}
	return answer, saga.Finish(ctx, answer, func(ctx context.Context) error {
		return s.status(ctx, "store what came of order "+o.id, s.orders.settle(ctx, o))
	})
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
