package demo

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	ledgerv1 "example.com/rolecall/gen/ledger/v1"
	ordersv1 "example.com/rolecall/gen/orders/v1"
	tokensv1 "example.com/rolecall/gen/tokens/v1"
	usersv1 "example.com/rolecall/gen/users/v1"
	"example.com/rolecall/interceptors"
	"example.com/rolecall/internal/cli"
	"example.com/rolecall/internal/mesh"
)

// loggedIn is a session of a user: what the user's program keeps. Its tokens are never shown.
type loggedIn struct {
	access, refresh string
	summary         string
}

func newLoggedIn(pair *tokensv1.TokenPair) *loggedIn {
	carries := "no role"
	if roles := pair.GetRoles(); len(roles) > 0 {
		carries = strings.Join(roles, ", ")
	}
	return &loggedIn{
		access: pair.GetAccessToken(), refresh: pair.GetRefreshToken(),
		summary: fmt.Sprintf("tokens of %s: access until %s, carries %s; refresh until %s", pair.GetUsername(),
			pair.GetAccessExpires().AsTime().Local().Format("15:04:05"), carries, pair.GetRefreshExpires().AsTime().Local().Format("2 January")),
	}
}

// inviteUsers finds the users of the tour in mesh.json, and refuses those with whom it would show something else than it says.
func (t *tour) inviteUsers() error {
	for name, roles := range map[string][]string{"dave": {customerRole}, "erin": {customerRole, ordersReader}} {
		i := slices.IndexFunc(t.file.Users, func(u mesh.User) bool { return u.Username == name })
		if i < 0 {
			return fmt.Errorf("%s names no user %s, whom the tour needs: stop the mesh and start it again, or enable the user", t.dir.File(), name)
		}
		for _, role := range roles {
			if !slices.Contains(t.file.Users[i].Roles, role) {
				return fmt.Errorf("the tour needs %s to hold %s: give it back with SetRoles of users, and start the mesh again", name, role)
			}
		}
		t.users[name] = t.file.Users[i]
	}
	return nil
}

// The roles of users in the tour.
const (
	customerRole = "orders.customer"
	ordersReader = "orders.reader"
)

// loginAs logs a user in through somebody's workload, with some of the roles or, without names, with all. If it works, into
// has the session.
func (t *tour) loginAs(through *person, user mesh.User, into **loggedIn, roles ...string) func(context.Context) outcome {
	request := &tokensv1.LoginRequest{Username: user.Username, Password: user.Password}
	if len(roles) > 0 {
		request.RoleSubset = &tokensv1.RoleSubset{Roles: roles}
	}
	return func(ctx context.Context) outcome {
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		var before error
		for {
			response, err := through.tokens.Login(ctx, request)
			if err != nil && before != nil && ctx.Err() != nil {
				err = before // which says more than that the time is over
			}
			if code := status.Code(err); ctx.Err() != nil || code != codes.Unavailable && code != codes.ResourceExhausted {
				return t.toldOfPassword(user, sessionOutcome(response.GetTokens(), err, into))
			}
			// A mesh that has just come up, or others who log in at this moment.
			before = err
			select {
			case <-tick.C:
			case <-ctx.Done():
			}
		}
	}
}

// toldOfPassword notes what to do if a sample user's own password is refused: somebody has given her another one.
func (t *tour) toldOfPassword(user mesh.User, got outcome) outcome {
	if got.reason == loginRefused.reason && user.Password == t.users[user.Username].Password {
		got.noted = fmt.Sprintf(`%s has another password than %s says. Set that one again: echo '{"username":"%[1]s","password":"..."}' | %[3]s`,
			user.Username, cli.Relative(t.dir.File()), t.rolecall("call", "users/SetPassword", "-d", "@-"))
	}
	return got
}

// refreshAs presents a refresh token. If it works, into has the next pair.
func refreshAs(through *person, token string, into **loggedIn) func(context.Context) outcome {
	return func(ctx context.Context) outcome {
		response, err := through.tokens.Refresh(ctx, &tokensv1.RefreshRequest{RefreshToken: token})
		return sessionOutcome(response.GetTokens(), err, into)
	}
}

func sessionOutcome(pair *tokensv1.TokenPair, err error, into **loggedIn) outcome {
	if err != nil {
		return answered(nil, err)
	}
	*into = newLoggedIn(pair)
	return outcome{code: ok.code, text: (*into).summary}
}

// onBehalf makes what is tried on behalf of the user of a token.
func onBehalf(token string, try func(context.Context) outcome) func(context.Context) outcome {
	return func(ctx context.Context) outcome { return try(interceptors.AsUser(ctx, token)) }
}

// buys places an order, which must be paid: the answer of one that ledger refused to pay is no error.
func buys(through *person, request *ordersv1.PlaceOrderRequest) func(context.Context) outcome {
	return func(ctx context.Context) outcome {
		return ordered(through.orders.PlaceOrder(ctx, request))
	}
}

func ordered(response *ordersv1.PlaceOrderResponse, err error) outcome {
	if err != nil {
		return answered(nil, err)
	}
	order := response.GetOrder()
	text := fmt.Sprintf("order of %s: %s %s", order.GetUsername(), order.GetState(), order.GetFailure())
	if order.GetState() != ordersv1.Order_STATE_PAID {
		return outcome{code: "not paid", text: text}
	}
	return outcome{code: ok.code, text: text}
}

// asksWhoHeIs calls GetSelf.
func asksWhoHeIs(through *person) func(context.Context) outcome {
	return func(ctx context.Context) outcome {
		response, err := through.users.GetSelf(ctx, &usersv1.GetSelfRequest{})
		if err != nil {
			return answered(nil, err)
		}
		return outcome{code: ok.code, text: fmt.Sprintf("%s, who holds %s, through %s", response.GetUser().GetUsername(),
			strings.Join(response.GetUser().GetRoles(), ", "), response.GetWorkload())}
	}
}

// everywhere calls each service that users call, again and again until it answers with the reason, empty for none. It
// tells each as it does, and returns those that did not before ctx ended.
func (t *tour) everywhere(ctx context.Context, through *person, reason string, tell func(service string, answer outcome)) (left []string) {
	calls := map[string]func(context.Context) outcome{
		"users":  calls(through.users.GetSelf, &usersv1.GetSelfRequest{}),
		"ledger": calls(through.ledger.GetBalance, &ledgerv1.GetBalanceRequest{AccountId: t.purse}),
		"orders": calls(through.orders.ListOrders, &ordersv1.ListOrdersRequest{}),
	}
	left = slices.Sorted(maps.Keys(calls))
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		left = slices.DeleteFunc(left, func(name string) bool {
			answer := calls[name](ctx)
			if answer.reason != reason || reason == "" && answer.code != ok.code {
				return false
			}
			tell(name, answer)
			return true
		})
		if len(left) == 0 {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return left
		}
	}
}

// endsEverywhere waits until each service refuses the token as revoked. The outcome says how long each took; its code is
// another one if one of them goes on accepting it.
func (t *tour) endsEverywhere(through *person, token string) func(context.Context) outcome {
	return onBehalf(token, func(ctx context.Context) outcome {
		began := time.Now()
		var last outcome
		var took []string
		left := t.everywhere(ctx, through, userTokenRevoked.reason, func(service string, answer outcome) {
			last, took = answer, append(took, service+" after "+since(began))
		})
		if len(left) > 0 {
			return outcome{code: "still accepted", text: "by " + strings.Join(left, ", ")}
		}
		last.text = strings.Join(took, ", ")
		return last
	})
}

// knownEverywhere waits until each service verifies tokens: in a mesh that has just come up one may not have heard of the
// tokens service yet.
func (t *tour) knownEverywhere(ctx context.Context, through *person, token string) error {
	ctx, cancel := context.WithTimeout(interceptors.AsUser(ctx, token), patience)
	defer cancel()
	if left := t.everywhere(ctx, through, "", func(string, outcome) {}); len(left) > 0 {
		return fmt.Errorf("%s cannot verify a token that was just given out: see %s", strings.Join(left, ", "), t.dir.Log(left[0]))
	}
	return nil
}
