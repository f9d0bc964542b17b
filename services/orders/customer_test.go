package orders_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	ordersv1 "example.com/rolecall/gen/orders/v1"
	"example.com/rolecall/interceptors"
	"example.com/rolecall/internal/node/nodetest"
)

func TestWhoMayOrder(t *testing.T) {
	t.Parallel()
	s := newShop(t, "", roles)
	bob := ordersv1.NewOrdersServiceClient(s.mesh.Client(t, "/operator/bob", s.service))
	carol := ordersv1.NewOrdersServiceClient(s.mesh.Client(t, "/operator/carol", s.service))
	as := func(token string) context.Context { return interceptors.AsUser(nodetest.Context(t), token) }
	for name, tc := range map[string]struct {
		client ordersv1.OrdersServiceClient
		ctx    context.Context
		code   codes.Code
		reason string
	}{
		"a customer":                           {s.alice, s.as(t, "dave"), codes.OK, ""},
		"nobody, through a workload that may":  {s.alice, nodetest.Context(t), codes.Unauthenticated, "USER_REQUIRED"},
		"a user whose token carries no role":   {s.alice, as(s.people.Token("dave")), codes.PermissionDenied, "USER_ROLE_REQUIRED"},
		"a user who may read and not buy":      {s.alice, as(s.people.Token("dave", "orders.reader")), codes.PermissionDenied, "USER_ROLE_REQUIRED"},
		"a user with a role of workloads only": {s.alice, as(s.people.Token("dave", "orders.writer")), codes.PermissionDenied, "USER_ROLE_REQUIRED"},
		// Attack: token of a user through a workload that lacks the role.
		"a customer, through a workload that may only read":  {bob, s.as(t, "dave", "orders.writer"), codes.PermissionDenied, "ROLE_REQUIRED"},
		"a customer, through a workload without any role":    {carol, s.as(t, "dave", "orders.writer"), codes.PermissionDenied, "ROLE_REQUIRED"},
		"a customer of the company's issuer, who has no row": {s.alice, as(s.company.Token(t, "dave", customerRole)), codes.InvalidArgument, "INVALID_FIELD"},
	} {
		t.Run(name, func(t *testing.T) {
			req := s.request()
			req.Username = "dave"
			_, err := tc.client.PlaceOrder(tc.ctx, req)
			if status.Code(err) != tc.code || nodetest.Reason(err) != tc.reason {
				t.Errorf("got %v (%s), want %v %s", err, nodetest.Reason(err), tc.code, tc.reason)
			}
		})
	}
	if stored := s.list(t, "", 0); len(stored) != 1 {
		t.Errorf("stored: %v, want the one order that was allowed", stored)
	}
}

func TestUsersSeeTheirOwnOrdersAndReadersThoseOfAll(t *testing.T) {
	t.Parallel()
	s := newShop(t, "", roles)
	daves, erins := s.place(t, "dave"), s.place(t, "erin")
	as := func(token string) context.Context { return interceptors.AsUser(nodetest.Context(t), token) }
	for name, tc := range map[string]struct {
		ctx context.Context
		// sees are the orders in the list of all and of dave's, nil for one that is refused; finds those that are read one by one.
		all, ofDave, finds []string
	}{
		"nobody, through a workload that may read": {nodetest.Context(t), []string{erins, daves}, []string{daves}, []string{daves, erins}},
		"dave":                          {s.as(t, "dave"), []string{daves}, []string{daves}, []string{daves}},
		"erin":                          {s.as(t, "erin"), []string{erins}, nil, []string{erins}},
		"dave without a role":           {as(s.people.Token("dave")), []string{daves}, []string{daves}, []string{daves}},
		"a user who has bought nothing": {s.as(t, "frank"), []string{}, nil, nil},
		"a reader":                      {s.as(t, "frank", "orders.reader"), []string{erins, daves}, []string{daves}, []string{daves, erins}},
		"a user of the company who is called dave too": {as(s.company.Token(t, "dave", customerRole)), nil, nil, nil},
		"a reader of the company":                      {as(s.company.Token(t, "dave", "orders.reader")), []string{erins, daves}, []string{daves}, []string{daves, erins}},
	} {
		t.Run(name, func(t *testing.T) {
			for username, want := range map[string][]string{"": tc.all, "dave": tc.ofDave} {
				answer, err := s.alice.ListOrders(tc.ctx, &ordersv1.ListOrdersRequest{Username: username})
				if want == nil {
					if nodetest.Reason(err) != "USER_ROLE_REQUIRED" {
						t.Errorf("orders of %q: %v, %v, want USER_ROLE_REQUIRED", username, answer, err)
					}
					continue
				}
				var got []string
				for _, o := range answer.GetOrders() {
					got = append(got, o.GetOrderId())
				}
				if err != nil || !slices.Equal(got, want) {
					t.Errorf("orders of %q: %v, %v, want %v", username, got, err, want)
				}
			}
			for _, id := range []string{daves, erins} {
				want := codes.NotFound
				if slices.Contains(tc.finds, id) {
					want = codes.OK
				}
				if _, err := s.alice.GetOrder(tc.ctx, &ordersv1.GetOrderRequest{OrderId: id}); status.Code(err) != want {
					t.Errorf("order %s: got %v, want %v", id, err, want)
				}
			}
		})
	}
}

func TestAPageOfOneUserIsNoPageOfAnother(t *testing.T) {
	t.Parallel()
	s := newShop(t, "", roles)
	s.place(t, "dave")
	s.place(t, "dave")
	s.place(t, "erin")
	page, err := s.alice.ListOrders(s.as(t, "dave"), &ordersv1.ListOrdersRequest{PageSize: 1})
	if err != nil || page.GetNextPageToken() == "" {
		t.Fatalf("first page of dave: %v, %v", page, err)
	}
	_, err = s.alice.ListOrders(s.as(t, "erin"), &ordersv1.ListOrdersRequest{PageSize: 1, PageToken: page.GetNextPageToken()})
	if status.Code(err) != codes.InvalidArgument {
		t.Errorf("erin with the page token of dave: got %v, want InvalidArgument", err)
	}
}

// What orders asks of the others is on record with the workload and the user, as is the order itself.
func TestTheAuditRecordsNameTheWorkloadAndTheUser(t *testing.T) {
	t.Parallel()
	s := newShop(t, "", roles)
	s.place(t, "dave")
	for method, workload := range map[string]string{
		"/orders.v1.OrdersService/PlaceOrder": "spiffe://mesh.local/operator/alice",
		"/users.v1.UsersService/Get":          "spiffe://mesh.local/service/orders",
		"/ledger.v1.LedgerService/Transfer":   "spiffe://mesh.local/service/orders",
	} {
		record := s.audit.Wait(t, method, func(r map[string]any) bool { return r["method"] == method && r["verdict"] == "allowed" })
		if record["workload"] != workload || record["user"] != "dave" {
			t.Errorf("%s: %v, want the workload %s and the user dave", method, record, workload)
		}
	}
	if strings.Contains(s.audit.Text(), ".eyJ") {
		t.Error("a token is in the audit records")
	}
}

func TestARevokedTokenPlacesNoOrder(t *testing.T) {
	t.Parallel()
	s := newShop(t, "", roles)
	ctx := s.as(t, "dave")
	s.people.Revoke("dave")
	for began := time.Now(); ; {
		_, err := s.alice.ListOrders(ctx, &ordersv1.ListOrdersRequest{})
		if nodetest.Reason(err) == "USER_TOKEN_REVOKED" {
			t.Logf("refused after %s", time.Since(began).Round(time.Millisecond))
			break
		}
		if err != nil || time.Since(began) > nodetest.Patience {
			t.Fatalf("list: %v, want USER_TOKEN_REVOKED", err)
		}
	}
	if _, err := s.alice.PlaceOrder(ctx, s.request()); nodetest.Reason(err) != "USER_TOKEN_REVOKED" {
		t.Errorf("place: %v, want USER_TOKEN_REVOKED", err)
	}
	s.place(t, "dave") // with a new token
}
