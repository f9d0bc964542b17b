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
	"example.com/rolecall/internal/node"
	"example.com/rolecall/internal/node/nodetest"
	"example.com/rolecall/internal/store/storetest"
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

// peers play users and ledger behind real guards. Services do not import each other: what these two do otherwise is
// tested in their own folders.
type peers struct {
	usersv1.UnimplementedUsersServiceServer
	ledgerv1.UnimplementedLedgerServiceServer
	transfer func(*ledgerv1.TransferRequest) (*ledgerv1.TransferResponse, error)
}

func (p *peers) Get(_ context.Context, req *usersv1.GetRequest) (*usersv1.GetResponse, error) {
	switch req.GetUsername() {
	case "dave":
		return &usersv1.GetResponse{User: &usersv1.User{Username: "dave"}}, nil
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
	service *nodetest.Service
	ledger  *nodetest.Service
	alice   ordersv1.OrdersServiceClient
}

func newShop(t *testing.T, url, roles string, transfer func(*ledgerv1.TransferRequest) (*ledgerv1.TransferResponse, error)) *shop {
	t.Helper()
	mesh, p := nodetest.New(t, roles), &peers{transfer: transfer}
	users := mesh.Start(t, "users", "", func(_ context.Context, n *node.Node) error {
		usersv1.RegisterUsersServiceServer(n.Server, p)
		return nil
	})
	ledger := mesh.Start(t, "ledger", "", func(_ context.Context, n *node.Node) error {
		ledgerv1.RegisterLedgerServiceServer(n.Server, p)
		return nil
	})
	service := mesh.Start(t, "orders", url, orders.Setup, func(cfg *node.Config) {
		cfg.Peers = map[string]node.Peer{"users": users.Peer(), "ledger": ledger.Peer()}
	})
	s := &shop{mesh: mesh, service: service, ledger: ledger}
	s.alice = ordersv1.NewOrdersServiceClient(mesh.Client(t, "/operator/alice", service))
	return s
}

func request(username string) *ordersv1.PlaceOrderRequest {
	return &ordersv1.PlaceOrderRequest{
		Username: username, Item: "a book", Price: &ledgerv1.Money{Currency: "EUR", MinorUnits: 1250},
		PayingAccount: "account-1", ReceivingAccount: "account-2",
	}
}

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
			req := request("dave")
			req.Item = fmt.Sprint("book ", i)
			if _, err := s.alice.PlaceOrder(nodetest.Context(t), req); err != nil {
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
	if _, err := s.alice.PlaceOrder(nodetest.Context(t), request("dave")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.alice.PlaceOrder(nodetest.Context(t), request("dave")); err != nil {
		t.Fatal(err)
	}
	page, err := s.alice.ListOrders(nodetest.Context(t), &ordersv1.ListOrdersRequest{PageSize: 1})
	if err != nil {
		t.Fatal(err)
	}
	place := func(change func(*ordersv1.PlaceOrderRequest)) func() error {
		return func() error {
			req := request("dave")
			change(req)
			_, err := s.alice.PlaceOrder(nodetest.Context(t), req)
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
		"no username":                    {place(func(r *ordersv1.PlaceOrderRequest) { r.Username = "" }), "username"},
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
	if _, err := bob.PlaceOrder(nodetest.Context(t), request("dave")); status.Code(err) != codes.PermissionDenied {
		t.Errorf("place: got %v, want PermissionDenied", err)
	}
	if _, err := bob.GetOrder(nodetest.Context(t), &ordersv1.GetOrderRequest{OrderId: "nothing"}); status.Code(err) != codes.NotFound {
		t.Errorf("get: got %v, want NotFound", err)
	}
}
