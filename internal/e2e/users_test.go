//go:build unix

package e2e_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	ledgerv1 "example.com/rolecall/gen/ledger/v1"
	ordersv1 "example.com/rolecall/gen/orders/v1"
	tokensv1 "example.com/rolecall/gen/tokens/v1"
	usersv1 "example.com/rolecall/gen/users/v1"
	"example.com/rolecall/interceptors"
	"example.com/rolecall/internal/mesh"
)

// newUser makes a user with a password that only the test knows.
func (m *runningMesh) newUser(t *testing.T, roles ...string) mesh.User {
	t.Helper()
	u := mesh.User{Username: "u" + strings.ToLower(rand.Text()), Password: rand.Text(), Roles: roles}
	keepSecret(u.Password)
	await(t, "user "+u.Username+" is made", func() error {
		_, err := m.caller(t, "alice").users(t).Create(t.Context(), &usersv1.CreateRequest{User: &usersv1.User{Username: u.Username, Roles: roles}, Password: u.Password})
		return comeAgain(t, err)
	})
	return u
}

// sampleUser returns one of those that every mesh has.
func (m *runningMesh) sampleUser(t *testing.T, name string) mesh.User {
	t.Helper()
	i := slices.IndexFunc(m.file.Users, func(u mesh.User) bool { return u.Username == name })
	if i < 0 {
		t.Fatalf("mesh.json names no user %s", name)
	}
	keepSecret(m.file.Users[i].Password)
	return m.file.Users[i]
}

// comeAgain fails the test on any error but one that says to come again: passwords are hashed a few at a time, and of two
// services that have just started one may not have found the other yet.
func comeAgain(t *testing.T, err error) error {
	t.Helper()
	if code := status.Code(err); err != nil && code != codes.ResourceExhausted && code != codes.Unavailable {
		t.Fatal(err)
	}
	return err
}

func (c *caller) users(t *testing.T) usersv1.UsersServiceClient {
	t.Helper()
	return usersv1.NewUsersServiceClient(c.dial(t, "users"))
}

func (c *caller) tokens(t *testing.T) tokensv1.TokensServiceClient {
	t.Helper()
	return tokensv1.NewTokensServiceClient(c.dial(t, "tokens"))
}

func (c *caller) orders(t *testing.T) ordersv1.OrdersServiceClient {
	t.Helper()
	return ordersv1.NewOrdersServiceClient(c.dial(t, "orders"))
}

// login logs a user in through the caller, with some of the roles or, without names, with all.
func (c *caller) login(t *testing.T, u mesh.User, roles ...string) *tokensv1.TokenPair {
	t.Helper()
	request := &tokensv1.LoginRequest{Username: u.Username, Password: u.Password}
	if len(roles) > 0 {
		request.RoleSubset = &tokensv1.RoleSubset{Roles: roles}
	}
	tokens := c.tokens(t)
	var pair *tokensv1.TokenPair
	await(t, u.Username+" is logged in", func() error {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		answer, err := tokens.Login(ctx, request)
		pair = answer.GetTokens()
		return comeAgain(t, err)
	})
	keepTokens(pair)
	return pair
}

// keepTokens makes sure that no log may hold any of the pair, and no part of them that is worth something.
func keepTokens(pair *tokensv1.TokenPair) {
	keepSecret(pair.GetRefreshToken())
	for _, part := range strings.Split(pair.GetAccessToken(), ".")[1:] {
		keepSecret(part)
	}
}

// behalf are calls on behalf of a user of one token, through one workload, by the service that is called.
func (c *caller) behalf(t *testing.T, account, token string) map[string]func() error {
	t.Helper()
	users, ledger, orders := c.users(t), c.ledger(t), c.orders(t)
	call := func(f func(context.Context) error) func() error {
		return func() error {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			return f(interceptors.AsUser(ctx, token))
		}
	}
	return map[string]func() error{
		"users": call(func(ctx context.Context) error {
			_, err := users.GetSelf(ctx, &usersv1.GetSelfRequest{})
			return err
		}),
		"ledger": call(func(ctx context.Context) error {
			_, err := ledger.GetBalance(ctx, &ledgerv1.GetBalanceRequest{AccountId: account})
			return err
		}),
		"orders": call(func(ctx context.Context) error {
			_, err := orders.ListOrders(ctx, &ordersv1.ListOrdersRequest{})
			return err
		}),
	}
}

// accepted waits until each service accepts the token: one that has just started may still wait for its first snapshot.
func accepted(t *testing.T, calls map[string]func() error) {
	t.Helper()
	for name, call := range calls {
		await(t, name+" accepts the token", call)
	}
}

// endsWithinASecond revokes a token, in one way or another, and measures how long each service goes on accepting it. begin
// makes a token and returns the calls with it and what revokes it. On a machine that does much else a second can pass
// without anything being wrong, so it is the best of three.
func endsWithinASecond(t *testing.T, what string, begin func() (calls map[string]func() error, revoke func() error)) {
	t.Helper()
	for range 3 {
		calls, revoke := begin()
		accepted(t, calls)
		began := time.Now()
		if err := revoke(); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		answered := time.Since(began) // a new password waits for its turn to be hashed
		if ends(t, what, calls, began)-answered <= time.Second {
			return
		}
	}
	t.Errorf("%s: three times a service went on accepting the token for more than a second", what)
}

// ends waits until every call is refused as one with a revoked token, and returns how long after a moment the last one was.
func ends(t *testing.T, what string, calls map[string]func() error, began time.Time) time.Duration {
	t.Helper()
	type end struct {
		service string
		after   time.Duration
		err     error
	}
	done := make(chan end, len(calls))
	for service, call := range calls {
		go func() {
			tick := time.NewTicker(2 * time.Millisecond)
			defer tick.Stop()
			for {
				err := call()
				after := time.Since(began)
				if over := verdictOf(err).Reason == "USER_TOKEN_REVOKED"; over || err != nil || after > patience {
					if !over {
						err = fmt.Errorf("%s: after %s the answer is %v", service, after.Round(time.Millisecond), err)
					} else {
						err = nil
					}
					done <- end{service, after, err}
					return
				}
				<-tick.C
			}
		}()
	}
	var longest time.Duration
	for range calls {
		e := <-done
		if e.err != nil {
			t.Errorf("%s: %v", what, e.err)
		}
		t.Logf("%s: %s answers USER_TOKEN_REVOKED after %s", what, e.service, e.after.Round(time.Millisecond))
		longest = max(longest, e.after)
	}
	return longest
}

// purse opens an account of a user's that may go below zero, and one that money goes to.
func purse(t *testing.T, alice *caller, u mesh.User) (paying, receiving string) {
	t.Helper()
	return openAccounts(t, alice.ledger(t), "user:"+u.Username)
}
