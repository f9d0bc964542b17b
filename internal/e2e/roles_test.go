//go:build unix

package e2e_test

import (
	"context"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	ledgerv1 "example.com/rolecall/gen/ledger/v1"
	ordersv1 "example.com/rolecall/gen/orders/v1"
	tokensv1 "example.com/rolecall/gen/tokens/v1"
	usersv1 "example.com/rolecall/gen/users/v1"
	"example.com/rolecall/interceptors"
	"example.com/rolecall/internal/catalog"
)

func TestEachOperatorMayDoWhatTheBindingsSay(t *testing.T) {
	t.Parallel()
	running := sharedMesh(t)
	admin := running.caller(t, "alice").ledger(t)
	from, to := openAccounts(t, admin, "")
	pay(t, admin, from, to, 100)

	watch := func(ctx context.Context, c *caller) error {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		stream, err := c.ledger(t).WatchEntries(ctx, &ledgerv1.WatchEntriesRequest{AccountId: to})
		if err != nil {
			return err
		}
		_, err = stream.Recv()
		return err
	}
	balance := func(ctx context.Context, c *caller) error {
		_, err := c.ledger(t).GetBalance(ctx, &ledgerv1.GetBalanceRequest{AccountId: to})
		return err
	}
	transfer := func(ctx context.Context, c *caller) error {
		_, err := c.ledger(t).Transfer(ctx, &ledgerv1.TransferRequest{FromAccount: from, ToAccount: to, Amount: euro(1)})
		return err
	}
	open := func(ctx context.Context, c *caller) error {
		_, err := c.ledger(t).OpenAccount(ctx, &ledgerv1.OpenAccountRequest{Currency: "EUR"})
		return err
	}
	create := func(ctx context.Context, c *caller) error {
		_, err := c.users(t).Create(ctx, &usersv1.CreateRequest{User: &usersv1.User{Username: "someone"}})
		return err
	}
	orders := func(ctx context.Context, c *caller) error {
		_, err := c.orders(t).ListOrders(ctx, &ordersv1.ListOrdersRequest{})
		return err
	}
	login := func(ctx context.Context, c *caller) error {
		_, err := c.tokens(t).Login(ctx, &tokensv1.LoginRequest{Username: "nobody", Password: "not this one"})
		return err
	}
	revoke := func(ctx context.Context, c *caller) error {
		_, err := c.tokens(t).RevokeUser(ctx, &tokensv1.RevokeUserRequest{Username: "nobody"})
		return err
	}
	place := func(ctx context.Context, c *caller) error {
		_, err := c.orders(t).PlaceOrder(ctx, &ordersv1.PlaceOrderRequest{})
		return err
	}
	verify := func(ctx context.Context, c *caller) error {
		_, err := c.users(t).VerifyPassword(ctx, &usersv1.VerifyPasswordRequest{Username: "nobody", Password: "not this one"})
		return err
	}
	ok := verdict{Code: codes.OK}
	lacks := func(role string) verdict { return verdict{codes.PermissionDenied, "ROLE_REQUIRED", role} }
	for _, test := range []struct {
		name, who string
		call      func(context.Context, *caller) error
		want      verdict
	}{
		{"alice opens accounts", "alice", open, ok},
		{"alice transfers", "alice", transfer, ok},
		{"alice reads balances", "alice", balance, ok},
		{"alice watches entries", "alice", watch, ok},
		{"alice creates users", "alice", create, ok},
		{"alice lists orders", "alice", orders, ok},
		{"bob reads balances", "bob", balance, ok},
		{"bob watches entries", "bob", watch, ok},
		{"bob lists orders", "bob", orders, ok},
		{"bob may not transfer", "bob", transfer, lacks("ledger.writer")},
		{"bob may not open accounts", "bob", open, lacks("ledger.admin")},
		{"bob may not create users", "bob", create, lacks("users.admin")},
		{"alice logs users in", "alice", login, verdict{Code: codes.Unauthenticated, Reason: "LOGIN_REFUSED"}},
		{"alice ends all sessions of a user", "alice", revoke, verdict{Code: codes.NotFound}},
		{"alice may not verify passwords", "alice", verify, lacks("users.verifier")},
		{"alice places orders for users and for nobody else", "alice", place, verdict{Code: codes.Unauthenticated, Reason: "USER_REQUIRED"}},
		{"bob logs users in", "bob", login, verdict{Code: codes.Unauthenticated, Reason: "LOGIN_REFUSED"}},
		{"bob may not end all sessions of a user", "bob", revoke, lacks("tokens.admin")},
		{"carol may not log users in", "carol", login, lacks("tokens.login")},
		{"carol may not place orders", "carol", place, lacks("orders.writer")},
		{"carol may not transfer", "carol", transfer, lacks("ledger.writer")},
		{"carol may not read balances", "carol", balance, lacks("ledger.reader")},
		{"carol may not watch entries", "carol", watch, lacks("ledger.reader")},
		{"carol may not list orders", "carol", orders, lacks("orders.reader")},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			who := running.caller(t, test.who)
			var err error
			await(t, "the answer", func() error {
				if err = test.call(ctx, who); status.Code(err) == codes.ResourceExhausted {
					return err // passwords are hashed a few at a time
				}
				return nil
			})
			if diff := cmp.Diff(test.want, verdictOf(err)); diff != "" {
				t.Errorf("%v (-want +got):\n%s", err, diff)
			}
		})
	}
}

func TestServicesHoldOnlyWhatTheyNeed(t *testing.T) {
	t.Parallel()
	running := sharedMesh(t)
	roles, err := os.ReadFile(running.file.Roles)
	if err != nil {
		t.Fatal(err)
	}
	policy, err := interceptors.ReadPolicy(roles, catalog.Descriptors()...)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string][]string{}
	for _, m := range policy.Members {
		for _, s := range running.file.Services {
			if m.Member == s.ID {
				got[s.Name] = m.Roles
			}
		}
	}
	// ledger.reader comes with ledger.writer, tokens.verifier by a wildcard, as to the others, which call nobody else.
	want := map[string][]string{
		"orders": {"ledger.reader", "ledger.writer", "tokens.verifier", "users.reader"},
		"tokens": {"tokens.verifier", "users.verifier"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("roles of the services (-want +got):\n%s", diff)
	}
}
