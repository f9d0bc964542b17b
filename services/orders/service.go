// Package orders is the service that sells things: on behalf of a user it asks users whether she may buy, and pays through
// ledger: out of an account of hers, or with a payment that the owner of another account has signed.
//
// An order takes effect once, in two short transactions with the payment between them (the saga form of exactlyonce). place.go
// stores the order as PENDING, so that no payment is without its order, and what came of it as PAID or FAILED; pay.go asks
// ledger for the payment, and forward.go passes on a signed one; settle.go finds out what came of one whose answer was lost;
// payment.go checks signed payments. If orders is killed in the middle, or ledger does not answer, a worker goes on with what is
// PENDING.
package orders

import (
	"context"
	"embed"
	"errors"
	"log/slog"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	ledgerv1 "example.com/rolecall/gen/ledger/v1"
	ordersv1 "example.com/rolecall/gen/orders/v1"
	usersv1 "example.com/rolecall/gen/users/v1"
	"example.com/rolecall/interceptors"
	"example.com/rolecall/interceptors/exactlyonce"
	"example.com/rolecall/internal/field"
	"example.com/rolecall/internal/node"
	"example.com/rolecall/internal/page"
	"example.com/rolecall/internal/store"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Service implements orders.v1. Safe for concurrent use.
type Service struct {
	ordersv1.UnimplementedOrdersServiceServer
	orders orders
	users  usersv1.UsersServiceClient
	ledger ledgerv1.LedgerServiceClient
	// ledgerConn is what ledger is made of: signed payments pass through it as they are.
	ledgerConn grpc.ClientConnInterface
	id         spiffeid.ID // of orders itself
	log        *slog.Logger
	now        func() time.Time
}

// Setup registers the service on a node that has the peers users and ledger.
func Setup(ctx context.Context, n *node.Node) error {
	users, err := n.Dial("users")
	if err != nil {
		return err
	}
	ledger, err := n.Dial("ledger")
	if err != nil {
		return err
	}
	db, err := n.OpenDB(ctx, migrations)
	if err != nil {
		return err
	}
	svid, err := n.SVID()
	if err != nil {
		return err
	}
	s := &Service{
		orders: orders{db}, users: usersv1.NewUsersServiceClient(users), ledger: ledgerv1.NewLedgerServiceClient(ledger), ledgerConn: ledger, id: svid.ID,
		log: n.Log, now: time.Now,
	}
	exactlyonce.OnResume(n.Requests(), ordersv1.OrdersService_PlaceOrder_FullMethodName, s.resume)
	ordersv1.RegisterOrdersServiceServer(n.Server, s)
	return nil
}

// GetOrder reads one order.
func (s *Service) GetOrder(ctx context.Context, req *ordersv1.GetOrderRequest) (*ordersv1.GetOrderResponse, error) {
	if err := field.ID("order_id", req.GetOrderId()); err != nil {
		return nil, err
	}
	o, err := s.orders.get(ctx, req.GetOrderId())
	if err == nil && !maySee(ctx, o.username) {
		err = errNotFound // whether there is one of that number is nobody else's business
	}
	if err != nil {
		return nil, s.status(ctx, "get order", err)
	}
	return &ordersv1.GetOrderResponse{Order: o.message()}, nil
}

// ListOrders lists orders, newest first.
func (s *Service) ListOrders(ctx context.Context, req *ordersv1.ListOrdersRequest) (*ordersv1.ListOrdersResponse, error) {
	username := req.GetUsername()
	if username != "" {
		if err := checkUsername(username); err != nil {
			return nil, err
		}
	}
	if !maySee(ctx, username) {
		own := customer(ctx)
		if own == "" || username != "" && username != own {
			return nil, interceptors.CallerFrom(ctx).RequireUserRole(readerRole)
		}
		username = own
	}
	question := "orders.ListOrders " + username
	size, cursor, err := page.Read(question, req.GetPageSize(), req.GetPageToken())
	if err != nil {
		return nil, err
	}
	before := newest
	if cursor != "" {
		if before, err = parsePlace(cursor); err != nil {
			return nil, page.Foreign()
		}
	}
	found, err := s.orders.list(ctx, username, before, size+1)
	if err != nil {
		return nil, s.status(ctx, "list orders", err)
	}
	answer := &ordersv1.ListOrdersResponse{}
	if len(found) > size {
		found = found[:size]
		answer.NextPageToken = page.Token(question, found[size-1].place().String())
	}
	for _, o := range found {
		answer.Orders = append(answer.Orders, o.message())
	}
	return answer, nil
}

// status turns what the store answered into what the caller is told.
func (s *Service) status(ctx context.Context, doing string, err error) error {
	if errors.Is(err, errNotFound) {
		return status.Error(codes.NotFound, "there is no such order")
	}
	return store.Status(ctx, s.log, doing, err)
}
