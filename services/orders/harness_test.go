package orders_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"

	ledgerv1 "example.com/rolecall/gen/ledger/v1"
	ordersv1 "example.com/rolecall/gen/orders/v1"
	usersv1 "example.com/rolecall/gen/users/v1"
	"example.com/rolecall/interceptors"
	"example.com/rolecall/interceptors/usertoken"
	"example.com/rolecall/internal/leaktest"
	"example.com/rolecall/internal/node"
	"example.com/rolecall/internal/node/nodetest"
	"example.com/rolecall/rolecalltest"
	"example.com/rolecall/services/keys"
	"example.com/rolecall/services/ledger"
	"example.com/rolecall/services/orders"
	"example.com/rolecall/services/users"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// What orders itself holds is all that it needs: users.reader and ledger.writer. The bank administers the books, and the
// wallet is a workload with money of its own.
const roles = `
trustDomain: mesh.local
bindings:
  - role: users.reader
    members: [spiffe://mesh.local/service/orders]
  - role: users.admin
    members: [spiffe://mesh.local/operator/bank]
  - role: ledger.admin
    members: [spiffe://mesh.local/operator/bank]
  - role: ledger.writer
    members: [spiffe://mesh.local/service/orders, spiffe://mesh.local/service/wallet, spiffe://mesh.local/service/eve]
  - role: orders.writer
    members: [spiffe://mesh.local/operator/alice]
  - role: orders.reader
    members: [spiffe://mesh.local/operator/bob]
`

// customerRole is what a user needs to order.
const customerRole = "orders.customer"

// price is what everything costs here.
const price = 1250

var cheap = users.Argon2{Passes: 1, MemoryKiB: 64, Lanes: 1}

// shop is orders with all that it needs: users, ledger and keys as they are, and orders' way to ledger through a wire that a
// test cuts.
type shop struct {
	mesh                         *nodetest.Mesh
	people                       *rolecalltest.Users
	company                      *nodetest.Company
	users, ledger, keys, service *nodetest.Service
	// audit has the records of all services.
	audit *nodetest.Audit
	wire  *wire
	// transfer stands before ledger's handler of Transfer; nil lets all pass.
	transfer atomic.Pointer[transferHook]
	database string

	alice ordersv1.OrdersServiceClient
	conn  *grpc.ClientConn // alice's to orders
	books ledgerv1.LedgerServiceClient
	// accounts, of which only the till does not go below zero
	daves, erins, wallets, till string
}

// transferHook is called in place of a handler, which next calls.
type transferHook func(ctx context.Context, req *ledgerv1.TransferRequest, next func() (*ledgerv1.TransferResponse, error)) (*ledgerv1.TransferResponse, error)

func (s *shop) onTransfer(hook transferHook) { s.transfer.Store(&hook) }

// hookedLedger is ledger behind the hook.
type hookedLedger struct {
	ledgerv1.LedgerServiceServer
	shop *shop
}

func (h hookedLedger) Transfer(ctx context.Context, req *ledgerv1.TransferRequest) (*ledgerv1.TransferResponse, error) {
	next := func() (*ledgerv1.TransferResponse, error) { return h.LedgerServiceServer.Transfer(ctx, req) }
	if hook := h.shop.transfer.Load(); hook != nil {
		return (*hook)(ctx, req, next)
	}
	return next()
}

type hookedRegistrar struct {
	grpc.ServiceRegistrar
	shop *shop
}

func (r hookedRegistrar) RegisterService(desc *grpc.ServiceDesc, service any) {
	r.ServiceRegistrar.RegisterService(desc, hookedLedger{service.(ledgerv1.LedgerServiceServer), r.shop})
}

func newShop(t *testing.T, url, roles string) *shop {
	t.Helper()
	mesh := nodetest.New(t, roles)
	s := &shop{mesh: mesh, people: mesh.Users(t), company: nodetest.NewCompany(t), audit: &nodetest.Audit{}, database: url}
	if url == "" {
		s.database = t.TempDir() + "/orders.db" // outlives orders
	}
	tokens := node.Peer{Target: mesh.Tokens.Target(), ID: mesh.CA.ID("/service/tokens")}
	s.keys = mesh.Start(t, "keys", "", keys.Setup, func(cfg *node.Config) {
		cfg.Peers = map[string]node.Peer{"tokens": tokens}
	})
	mesh.Keys.To(s.keys)
	s.users = mesh.Start(t, "users", "", users.New(users.Config{Cost: cheap}), s.accept)
	s.ledger = mesh.Start(t, "ledger", "", func(ctx context.Context, n *node.Node) error {
		n.Server = hookedRegistrar{n.Server, s}
		return ledger.Setup(ctx, n)
	}, s.accept)
	s.wire = newWire(t, s.ledger.Addr)
	s.start(t)
	bank := ledgerv1.NewLedgerServiceClient(mesh.Client(t, "/operator/bank", s.ledger))
	s.books = bank
	s.daves, s.erins, s.wallets = s.open(t, "user:dave", true), s.open(t, "user:erin", true), s.open(t, "spiffe://mesh.local/service/wallet", true)
	s.till = s.open(t, "spiffe://mesh.local/operator/bank", false)
	s.makeUsers(t)
	nodetest.Verifies(t, func() error {
		_, err := s.alice.ListOrders(s.as(t, "dave"), &ordersv1.ListOrdersRequest{})
		return err
	})
	nodetest.Verifies(t, func() error {
		_, err := usersv1.NewUsersServiceClient(mesh.Client(t, "/service/orders", s.users)).Get(s.as(t, "dave"), &usersv1.GetRequest{Username: "dave"})
		return err
	})
	nodetest.Verifies(t, func() error {
		_, err := bank.GetBalance(s.as(t, "dave"), &ledgerv1.GetBalanceRequest{AccountId: s.daves})
		return err
	})
	return s
}

// start starts orders on its database, a second time too.
func (s *shop) start(t *testing.T) {
	t.Helper()
	s.service = s.mesh.Start(t, "orders", s.database, orders.Setup, s.accept, func(cfg *node.Config) {
		cfg.Peers = map[string]node.Peer{"users": s.users.Peer(), "ledger": {Target: s.wire.target(), ID: s.ledger.ID}}
		cfg.Grace = 10 * time.Millisecond // who stops it, kills it
	})
	s.conn = s.mesh.Client(t, "/operator/alice", s.service)
	s.alice = ordersv1.NewOrdersServiceClient(s.conn)
}

// accept has a service accept the users of the company too, and keeps its audit records.
func (s *shop) accept(cfg *node.Config) {
	cfg.Issuers = []usertoken.Issuer{s.company.Issuer}
	s.audit.Keep(cfg)
}

func (s *shop) open(t *testing.T, owner string, allowNegative bool) string {
	t.Helper()
	opened, err := s.books.OpenAccount(nodetest.Context(t), &ledgerv1.OpenAccountRequest{Owner: owner, Currency: "EUR", AllowNegative: allowNegative})
	if err != nil {
		t.Fatalf("open an account of %s: %v", owner, err)
	}
	return opened.GetAccount().GetAccountId()
}

// makeUsers makes the users dave and erin, and mallory, who is disabled.
func (s *shop) makeUsers(t *testing.T) {
	t.Helper()
	admin := usersv1.NewUsersServiceClient(s.mesh.Client(t, "/operator/bank", s.users))
	for _, name := range []string{"dave", "erin", "mallory"} {
		if _, err := admin.Create(nodetest.Context(t), &usersv1.CreateRequest{User: &usersv1.User{Username: name}, Password: "correct horse battery"}); err != nil {
			t.Fatalf("create %s: %v", name, err)
		}
	}
	if _, err := admin.Disable(nodetest.Context(t), &usersv1.DisableRequest{Username: "mallory"}); err != nil {
		t.Fatalf("disable mallory: %v", err)
	}
}

// as makes calls on behalf of a user who may order, and holds the further roles.
func (s *shop) as(t *testing.T, username string, more ...string) context.Context {
	t.Helper()
	return interceptors.AsUser(nodetest.Context(t), s.people.Token(username, append(more, customerRole)...))
}

// request is an order of dave's, with a request_id of its own.
func (s *shop) request() *ordersv1.PlaceOrderRequest {
	return &ordersv1.PlaceOrderRequest{
		Item: "a book", Price: &ledgerv1.Money{Currency: "EUR", MinorUnits: price},
		PayingAccount: s.daves, ReceivingAccount: s.till, RequestId: uuid.NewString(),
	}
}

// place orders on behalf of a user, out of the user's account, and returns the order's ID.
func (s *shop) place(t *testing.T, username string) string {
	t.Helper()
	req := s.request()
	req.PayingAccount = map[string]string{"dave": s.daves, "erin": s.erins}[username]
	placed, err := s.alice.PlaceOrder(s.as(t, username), req)
	if err != nil || placed.GetOrder().GetState() != ordersv1.Order_STATE_PAID {
		t.Fatalf("order of %s: %v, %v, want it PAID", username, placed, err)
	}
	return placed.GetOrder().GetOrderId()
}

// list lists orders on behalf of nobody: alice sees all.
func (s *shop) list(t *testing.T, username string, size int32) (all []*ordersv1.Order) {
	t.Helper()
	for token := ""; ; {
		answer, err := s.alice.ListOrders(nodetest.Context(t), &ordersv1.ListOrdersRequest{Username: username, PageSize: size, PageToken: token})
		if err != nil {
			t.Fatalf("list orders: %v", err)
		}
		all = append(all, answer.GetOrders()...)
		if token = answer.GetNextPageToken(); token == "" {
			return all
		}
	}
}

// takings is how many orders the till has been paid for.
func (s *shop) takings(t *testing.T) int64 {
	t.Helper()
	answer, err := s.books.GetBalance(nodetest.Context(t), &ledgerv1.GetBalanceRequest{AccountId: s.till})
	if err != nil {
		t.Fatalf("balance of the till: %v", err)
	}
	if answer.GetBalance().GetMinorUnits()%price != 0 {
		t.Fatalf("the till holds %d, no multiple of the price %d", answer.GetBalance().GetMinorUnits(), price)
	}
	return answer.GetBalance().GetMinorUnits() / price
}

// wantTakings fails the test unless the till was paid for so many orders.
func (s *shop) wantTakings(t *testing.T, want int64) {
	t.Helper()
	if got := s.takings(t); got != want {
		t.Errorf("the till was paid for %d orders, want %d", got, want)
	}
}

// patience is how long a test waits for what an attempt of the worker brings about: each comes later than the one before.
const patience = 6 * nodetest.Patience

// until waits until something is so.
func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for began := time.Now(); !is(); <-tick.C {
		if time.Since(began) > patience {
			t.Fatalf("%s: not within %s", what, patience)
		}
	}
}

// insist sends a request until it is answered with an order, as a client does that was told to try again.
func (s *shop) insist(t *testing.T, username string, req *ordersv1.PlaceOrderRequest) *ordersv1.PlaceOrderResponse {
	t.Helper()
	var placed *ordersv1.PlaceOrderResponse
	until(t, "answer to "+fmt.Sprint(req.GetRequestId()), func() (ok bool) {
		var err error
		placed, err = s.alice.PlaceOrder(s.as(t, username), req)
		if err != nil && !again(err) {
			t.Fatalf("place order: %v, which is not to be tried again", err)
		}
		return err == nil
	})
	return placed
}
