package orders_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	ledgerv1 "example.com/rolecall/gen/ledger/v1"
	ordersv1 "example.com/rolecall/gen/orders/v1"
	usersv1 "example.com/rolecall/gen/users/v1"
	"example.com/rolecall/interceptors"
	"example.com/rolecall/interceptors/usertoken"
	"example.com/rolecall/internal/node"
	"example.com/rolecall/internal/node/nodetest"
	"example.com/rolecall/internal/store/storetest"
	"example.com/rolecall/rolecalltest"
	"example.com/rolecall/services/orders"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// What orders itself holds is all that it needs: users.reader and ledger.writer.
const roles = `
trustDomain: mesh.local
bindings:
  - role: users.reader
    members: [spiffe://mesh.local/service/orders]
  - role: ledger.writer
    members: [spiffe://mesh.local/service/orders]
  - role: orders.writer
    members: [spiffe://mesh.local/operator/alice]
  - role: orders.reader
    members: [spiffe://mesh.local/operator/bob]
`

// customerRole is what a user needs to order.
const customerRole = "orders.customer"

// peers play users and ledger behind real guards. Services do not import each other: what these two do otherwise is
// tested in their own folders.
type peers struct {
	usersv1.UnimplementedUsersServiceServer
	ledgerv1.UnimplementedLedgerServiceServer
	transfer func(*ledgerv1.TransferRequest) (*ledgerv1.TransferResponse, error)
}

func (p *peers) Get(_ context.Context, req *usersv1.GetRequest) (*usersv1.GetResponse, error) {
	switch req.GetUsername() {
	case "dave", "erin":
		return &usersv1.GetResponse{User: &usersv1.User{Username: req.GetUsername()}}, nil
	case "mallory":
		return &usersv1.GetResponse{User: &usersv1.User{Username: "mallory", Disabled: true}}, nil
	case "late":
		return nil, status.Error(codes.Unavailable, "secret detail of users")
	}
	return nil, status.Error(codes.NotFound, "there is no such user")
}

func (p *peers) Transfer(_ context.Context, req *ledgerv1.TransferRequest) (*ledgerv1.TransferResponse, error) {
	return p.transfer(req)
}

func paid(*ledgerv1.TransferRequest) (*ledgerv1.TransferResponse, error) {
	return &ledgerv1.TransferResponse{Transfer: &ledgerv1.TransferRecord{TransferId: "transfer-1"}}, nil
}

type shop struct {
	mesh    *nodetest.Mesh
	people  *rolecalltest.Users
	company *nodetest.Company
	service *nodetest.Service
	// audit has the records of all services.
	audit *nodetest.Audit
	alice ordersv1.OrdersServiceClient
}

func newShop(t *testing.T, url, roles string, transfer func(*ledgerv1.TransferRequest) (*ledgerv1.TransferResponse, error)) *shop {
	t.Helper()
	mesh, p := nodetest.New(t, roles), &peers{transfer: transfer}
	s := &shop{mesh: mesh, people: mesh.Users(t), company: nodetest.NewCompany(t), audit: &nodetest.Audit{}}
	users := mesh.Start(t, "users", "", func(_ context.Context, n *node.Node) error {
		usersv1.RegisterUsersServiceServer(n.Server, p)
		return nil
	}, s.accept)
	ledger := mesh.Start(t, "ledger", "", func(_ context.Context, n *node.Node) error {
		ledgerv1.RegisterLedgerServiceServer(n.Server, p)
		return nil
	}, s.accept)
	s.service = mesh.Start(t, "orders", url, orders.Setup, s.accept, func(cfg *node.Config) {
		cfg.Peers = map[string]node.Peer{"users": users.Peer(), "ledger": ledger.Peer()}
	})
	s.alice = ordersv1.NewOrdersServiceClient(mesh.Client(t, "/operator/alice", s.service))
	nodetest.Verifies(t, func() error {
		_, err := s.alice.ListOrders(s.as(t, "dave"), &ordersv1.ListOrdersRequest{})
		return err
	})
	nodetest.Verifies(t, func() error {
		client := usersv1.NewUsersServiceClient(mesh.Client(t, "/service/orders", users))
		_, err := client.Get(s.as(t, "dave"), &usersv1.GetRequest{Username: "dave"})
		return err
	})
	nodetest.Verifies(t, func() error {
		client := ledgerv1.NewLedgerServiceClient(mesh.Client(t, "/service/orders", ledger))
		_, err := client.GetTransfer(s.as(t, "dave"), &ledgerv1.GetTransferRequest{})
		return err
	})
	return s
}

// accept has a service accept the users of the company too, and keeps its audit records.
func (s *shop) accept(cfg *node.Config) {
	cfg.Issuers = []usertoken.Issuer{s.company.Issuer}
	s.audit.Keep(cfg)
}

// as makes calls on behalf of a user who may order, and holds the further roles.
func (s *shop) as(t *testing.T, username string, more ...string) context.Context {
	t.Helper()
	return interceptors.AsUser(nodetest.Context(t), s.people.Token(username, append(more, customerRole)...))
}

func request() *ordersv1.PlaceOrderRequest {
	return &ordersv1.PlaceOrderRequest{
		Item: "a book", Price: &ledgerv1.Money{Currency: "EUR", MinorUnits: 1250},
		PayingAccount: "account-1", ReceivingAccount: "account-2",
	}
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

func TestPagesHoldEveryOrderOnceNewestFirst(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, url string) {
		s := newShop(t, url, roles, paid)
		var want []string
		for i := range 23 {
			req := request()
			req.Item = fmt.Sprint("book ", i)
			if _, err := s.alice.PlaceOrder(s.as(t, "dave"), req); err != nil {
				t.Fatalf("place order: %v", err)
			}
			want = append(want, req.GetItem())
		}
		slices.Reverse(want)
		for _, username := range []string{"", "dave"} {
			for _, size := range []int32{1, 7, 23, 0} {
				var got []string
				for _, o := range s.list(t, username, size) {
					got = append(got, o.GetItem())
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("orders of %q in pages of %d (-want +got):\n%s", username, size, diff)
				}
			}
		}
		if got := s.list(t, "eve", 0); len(got) != 0 {
			t.Errorf("orders of a user without any: %v", got)
		}
	})
}

func TestBadRequestsNameTheirField(t *testing.T) {
	t.Parallel()
	s := newShop(t, "", roles, paid)
	if _, err := s.alice.PlaceOrder(s.as(t, "dave"), request()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.alice.PlaceOrder(s.as(t, "dave"), request()); err != nil {
		t.Fatal(err)
	}
	page, err := s.alice.ListOrders(nodetest.Context(t), &ordersv1.ListOrdersRequest{PageSize: 1})
	if err != nil {
		t.Fatal(err)
	}
	place := func(change func(*ordersv1.PlaceOrderRequest)) func() error {
		return func() error {
			req := request()
			change(req)
			_, err := s.alice.PlaceOrder(s.as(t, "dave"), req)
			return err
		}
	}
	list := func(req *ordersv1.ListOrdersRequest) func() error {
		return func() error {
			_, err := s.alice.ListOrders(nodetest.Context(t), req)
			return err
		}
	}
	for name, tc := range map[string]struct {
		call  func() error
		field string
	}{
		"somebody else's username":       {place(func(r *ordersv1.PlaceOrderRequest) { r.Username = "erin" }), "username"},
		"no item":                        {place(func(r *ordersv1.PlaceOrderRequest) { r.Item = "" }), "item"},
		"an item of 201":                 {place(func(r *ordersv1.PlaceOrderRequest) { r.Item = strings.Repeat("ü", 201) }), "item"},
		"no price":                       {place(func(r *ordersv1.PlaceOrderRequest) { r.Price = nil }), "price.currency"},
		"a price of zero":                {place(func(r *ordersv1.PlaceOrderRequest) { r.Price.MinorUnits = 0 }), "price.minor_units"},
		"no paying account":              {place(func(r *ordersv1.PlaceOrderRequest) { r.PayingAccount = "" }), "paying_account"},
		"one account on both sides":      {place(func(r *ordersv1.PlaceOrderRequest) { r.ReceivingAccount = r.PayingAccount }), "receiving_account"},
		"a page token of all for one":    {list(&ordersv1.ListOrdersRequest{Username: "dave", PageToken: page.GetNextPageToken()}), "page_token"},
		"a list of a user in upper case": {list(&ordersv1.ListOrdersRequest{Username: "DAVE"}), "username"},
		"an order ID with a space": {func() error {
			_, err := s.alice.GetOrder(nodetest.Context(t), &ordersv1.GetOrderRequest{OrderId: "a b"})
			return err
		}, "order_id"},
	} {
		t.Run(name, func(t *testing.T) {
			err := tc.call()
			var fields []string
			for _, detail := range status.Convert(err).Details() {
				if bad, ok := detail.(*errdetails.BadRequest); ok {
					for _, v := range bad.GetFieldViolations() {
						fields = append(fields, v.GetField())
					}
				}
			}
			if status.Code(err) != codes.InvalidArgument || !slices.Equal(fields, []string{tc.field}) {
				t.Errorf("got %v about the fields %v, want InvalidArgument about %s", err, fields, tc.field)
			}
		})
	}
}

func TestAReaderPlacesNoOrders(t *testing.T) {
	t.Parallel()
	s := newShop(t, "", roles, paid)
	bob := ordersv1.NewOrdersServiceClient(s.mesh.Client(t, "/operator/bob", s.service))
	if _, err := bob.ListOrders(nodetest.Context(t), &ordersv1.ListOrdersRequest{}); err != nil {
		t.Errorf("list: %v", err)
	}
	if _, err := bob.PlaceOrder(s.as(t, "dave"), request()); status.Code(err) != codes.PermissionDenied {
		t.Errorf("place: got %v, want PermissionDenied", err)
	}
	if _, err := bob.GetOrder(nodetest.Context(t), &ordersv1.GetOrderRequest{OrderId: "nothing"}); status.Code(err) != codes.NotFound {
		t.Errorf("get: got %v, want NotFound", err)
	}
}
