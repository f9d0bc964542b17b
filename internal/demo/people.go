package demo

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/protobuf/proto"

	ledgerv1 "example.com/rolecall/gen/ledger/v1"
	ordersv1 "example.com/rolecall/gen/orders/v1"
	tokensv1 "example.com/rolecall/gen/tokens/v1"
	usersv1 "example.com/rolecall/gen/users/v1"
	"example.com/rolecall/interceptors"
	"example.com/rolecall/interceptors/proof"
	"example.com/rolecall/internal/certfile"
	"example.com/rolecall/internal/mesh"
)

// The methods of the tour.
const (
	openAccount  = "/ledger.v1.LedgerService/OpenAccount"
	transfer     = "/ledger.v1.LedgerService/Transfer"
	getBalance   = "/ledger.v1.LedgerService/GetBalance"
	watchEntries = "/ledger.v1.LedgerService/WatchEntries"
	placeOrder   = "/orders.v1.OrdersService/PlaceOrder"
	listOrders   = "/orders.v1.OrdersService/ListOrders"
	getSelf      = "/users.v1.UsersService/GetSelf"
	login        = "/tokens.v1.TokensService/Login"
	refresh      = "/tokens.v1.TokensService/Refresh"
)

// services are those that the tour calls.
var services = []string{"users", "tokens", "ledger", "orders"}

// person is a workload with one connection to each service, which all its calls to it use: mostly an operator.
type person struct {
	name    string
	id      spiffeid.ID
	source  interceptors.Source
	guard   *interceptors.Guard
	proofs  *proof.Feature
	conns   map[string]*grpc.ClientConn
	closers []func() error
	users   usersv1.UsersServiceClient
	tokens  tokensv1.TokensServiceClient
	ledger  ledgerv1.LedgerServiceClient
	orders  ordersv1.OrdersServiceClient
}

// invite makes the people of the tour out of the operators' files.
func (t *tour) invite() error {
	for _, name := range []string{"alice", "bob", "carol"} {
		operator, ok := t.file.Operator(name)
		if !ok {
			return fmt.Errorf("%s names no operator %s: stop the mesh and start it again", t.dir.File(), name)
		}
		id, err := spiffeid.FromString(operator.ID)
		if err != nil {
			return fmt.Errorf("mesh.json: ID of %s: %w", name, err)
		}
		source, err := certfile.Open(operator.Cert, operator.Key, t.file.Bundle)
		if err != nil {
			return err
		}
		keys, _ := t.file.Service("keys")
		keysID, err := t.serviceID("keys")
		if err != nil {
			return err
		}
		// The key server makes alice's key known to those who get her requests from others.
		if t.people[name], err = t.person(name, id, source, proof.New(proof.Config{Target: keys.Address, Server: keysID})); err != nil {
			return err
		}
	}
	return nil
}

// person makes a workload out of its certificate. It must be closed.
func (t *tour) person(name string, id spiffeid.ID, source interceptors.Source, proofs *proof.Feature) (*person, error) {
	p := &person{name: name, id: id, source: source, proofs: proofs, conns: map[string]*grpc.ClientConn{}}
	// A client's guard audits handshakes that fail; the tour shows them itself.
	silent := []interceptors.Option{interceptors.Audit(slog.DiscardHandler), interceptors.Logger(slog.New(slog.DiscardHandler))}
	var err error
	if p.guard, err = interceptors.New(source, nil, append(silent, interceptors.With(proofs))...); err != nil {
		return nil, err
	}
	for _, name := range services {
		service, _ := t.file.Service(name)
		if p.conns[name], err = t.client(p, name, service.Address); err != nil {
			return nil, errors.Join(err, p.close())
		}
	}
	p.users, p.tokens = usersv1.NewUsersServiceClient(p.conns["users"]), tokensv1.NewTokensServiceClient(p.conns["tokens"])
	p.ledger, p.orders = ledgerv1.NewLedgerServiceClient(p.conns["ledger"]), ordersv1.NewOrdersServiceClient(p.conns["orders"])
	return p, nil
}

// client connects somebody to a service at an address, whoever answers there.
func (t *tour) client(p *person, name, address string, opts ...grpc.DialOption) (*grpc.ClientConn, error) {
	id, err := t.serviceID(name)
	if err != nil {
		return nil, err
	}
	return p.guard.NewClient(address, id, opts...)
}

// unguarded connects somebody to a service as grpcurl does: with no guard, which would sign, or say why it does not.
func (t *tour) unguarded(p *person, service mesh.Service) (*grpc.ClientConn, error) {
	id, err := t.serviceID(service.Name)
	if err != nil {
		return nil, err
	}
	return grpc.NewClient(service.Address, grpc.WithTransportCredentials(credentials.NewTLS(tlsconfig.MTLSClientConfig(p.source, p.source, tlsconfig.AuthorizeID(id)))))
}

func (t *tour) serviceID(name string) (spiffeid.ID, error) {
	service, _ := t.file.Service(name)
	id, err := spiffeid.FromString(service.ID)
	if err != nil {
		return id, fmt.Errorf("mesh.json: ID of %s: %w", name, err)
	}
	return id, nil
}

func (p *person) close() error {
	var errs []error
	for _, conn := range p.conns {
		errs = append(errs, conn.Close())
	}
	errs = append(errs, p.guard.Close())
	for _, closer := range p.closers {
		errs = append(errs, closer())
	}
	return errors.Join(errs...)
}

// calls returns a unary call as an attempt would make it.
func calls[Req, Resp proto.Message](method func(context.Context, Req, ...grpc.CallOption) (Resp, error), request Req) func(context.Context) outcome {
	return func(ctx context.Context) outcome {
		response, err := method(ctx, request)
		return answered(response, err)
	}
}

// holds says in words which roles of a service somebody has.
func (t *tour) holds(p *person, service string) string {
	var roles []string
	for _, m := range t.policy.Members {
		if m.Member == p.id.String() {
			roles = slices.DeleteFunc(slices.Clone(m.Roles), func(role string) bool { return !strings.HasPrefix(role, service+".") })
		}
	}
	if len(roles) == 0 {
		return p.name + " holds no role of " + service
	}
	return p.name + " holds " + strings.Join(roles, ", ")
}

// requires says in words what a method asks for.
func (t *tour) requires(method string) string {
	_, name, _ := strings.Cut(strings.TrimPrefix(method, "/"), "/")
	for _, m := range t.policy.Methods {
		if m.Method == method && !m.AnyWorkload {
			return name + " requires " + strings.Join(m.Roles, " and ")
		}
	}
	return name + " may be called by any workload"
}
