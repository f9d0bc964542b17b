package orders_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	ordersv1 "example.com/rolecall/gen/orders/v1"
	"example.com/rolecall/internal/node/nodetest"
	"example.com/rolecall/internal/store/storetest"
)

func TestPagesHoldEveryOrderOnceNewestFirst(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, url string) {
		s := newShop(t, url, roles)
		var want []string
		for i := range 23 {
			req := s.request()
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
	s := newShop(t, "", roles)
	if _, err := s.alice.PlaceOrder(s.as(t, "dave"), s.request()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.alice.PlaceOrder(s.as(t, "dave"), s.request()); err != nil {
		t.Fatal(err)
	}
	page, err := s.alice.ListOrders(nodetest.Context(t), &ordersv1.ListOrdersRequest{PageSize: 1})
	if err != nil {
		t.Fatal(err)
	}
	place := func(change func(*ordersv1.PlaceOrderRequest)) func() error {
		return func() error {
			req := s.request()
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
			fields := violations(err)
			if status.Code(err) != codes.InvalidArgument || !slices.Equal(fields, []string{tc.field}) {
				t.Errorf("got %v about the fields %v, want InvalidArgument about %s", err, fields, tc.field)
			}
		})
	}
}

// violations returns the fields that an error is about.
func violations(err error) (fields []string) {
	for _, detail := range status.Convert(err).Details() {
		if bad, ok := detail.(*errdetails.BadRequest); ok {
			for _, v := range bad.GetFieldViolations() {
				fields = append(fields, v.GetField())
			}
		}
	}
	return fields
}

func TestAReaderPlacesNoOrders(t *testing.T) {
	t.Parallel()
	s := newShop(t, "", roles)
	bob := ordersv1.NewOrdersServiceClient(s.mesh.Client(t, "/operator/bob", s.service))
	if _, err := bob.ListOrders(nodetest.Context(t), &ordersv1.ListOrdersRequest{}); err != nil {
		t.Errorf("list: %v", err)
	}
	if _, err := bob.PlaceOrder(s.as(t, "dave"), s.request()); status.Code(err) != codes.PermissionDenied {
		t.Errorf("place: got %v, want PermissionDenied", err)
	}
	if _, err := bob.GetOrder(nodetest.Context(t), &ordersv1.GetOrderRequest{OrderId: "nothing"}); status.Code(err) != codes.NotFound {
		t.Errorf("get: got %v, want NotFound", err)
	}
}
