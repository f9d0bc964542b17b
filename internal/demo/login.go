package demo

import (
	"context"

	"github.com/google/uuid"

	ledgerv1 "example.com/rolecall/gen/ledger/v1"
	ordersv1 "example.com/rolecall/gen/orders/v1"
	usersv1 "example.com/rolecall/gen/users/v1"
	"example.com/rolecall/internal/cli"
	"example.com/rolecall/internal/mesh"
)

// logsIn shows a user who logs in, and calls that are made on her behalf.
func (t *tour) logsIn(ctx context.Context) error {
	t.scene("A user logs in: the workload proves itself, and so does the person in front of it")
	alice, bob := t.people["alice"], t.people["bob"]
	dave := t.users["dave"]
	open := &ledgerv1.OpenAccountRequest{Owner: "user:" + dave.Username, Currency: "EUR", AllowNegative: true, RequestId: uuid.NewString()}
	if err := t.must(ctx, attempt{
		what:    "alice opens an account for dave, who is a user and has no certificate",
		command: t.opening("purse", open),
		try: func(ctx context.Context) outcome {
			response, err := alice.ledger.OpenAccount(ctx, open)
			t.purse = response.GetAccount().GetAccountId()
			return answered(response, err)
		},
		want: ok,
		why:  "An account belongs to a workload or to a user; nobody else pays out of it.",
	}); err != nil {
		return err
	}
	if err := t.guesses(ctx, bob, dave.Username); err != nil {
		return err
	}
	if err := t.must(ctx, attempt{
		what:    "dave logs in, at a program that calls as bob",
		command: "token=$(" + t.rolecall("login", dave.Username, "--as", "bob") + ")   # his password is in " + cli.Relative(t.dir.File()),
		try:     t.loginAs(bob, dave, &t.dave),
		want:    ok,
		why:     t.requires(login) + "; " + t.holds(bob, "tokens") + ". Every service verifies the access token by itself, for ten minutes at most.",
	}); err != nil {
		return err
	}
	if err := t.knownEverywhere(ctx, bob, t.dave.access); err != nil {
		return err
	}
	return t.orders(ctx)
}

// guesses shows what somebody learns who tries passwords.
func (t *tour) guesses(ctx context.Context, through *person, username string) error {
	for _, guess := range []struct{ what, username string }{
		{"Eve guesses " + username + "'s password, from bob's machine", username},
		{"and that of somebody who does not exist", "nobody-of-that-name"},
	} {
		var none *loggedIn
		if _, err := t.play(ctx, attempt{
			what:    guess.what,
			command: t.rolecall("login", guess.username, "--as", "bob"),
			try:     t.loginAs(through, mesh.User{Username: guess.username, Password: "password of " + username}, &none),
			want:    loginRefused,
			why:     "One answer for both, after the same work: nobody learns who has an account, and a username takes ten wrong passwords at once.",
		}); err != nil {
			return err
		}
	}
	return nil
}

// orders places an order on behalf of dave, and without one of the two that it takes.
func (t *tour) orders(ctx context.Context) error {
	bob, carol := t.people["bob"], t.people["carol"]
	buy := &ordersv1.PlaceOrderRequest{Item: "a lamp", Price: price(), PayingAccount: t.purse, ReceivingAccount: t.shop, RequestId: uuid.NewString()}
	for _, a := range []attempt{
		{
			what:    "dave buys a lamp: orders asks users who he is, and ledger to pay, on his behalf",
			command: t.commandFor("token", "bob", placeOrder, buy),
			try:     onBehalf(t.dave.access, buys(bob, buy)),
			want:    ok,
			why:     t.requires(placeOrder) + " of the workload and orders.customer of the user. The ledger has seen that the account is dave's.",
		},
		{
			what:    "bob leaves the token out",
			command: t.command("bob", placeOrder, buy),
			try:     buys(bob, buy),
			want:    userRequired,
			why:     "bob's certificate may place orders, on behalf of users. It is no user.",
		},
		{
			what: "carol has got hold of dave's token",
			// Not by grpcurl: what it asks first, which methods there are, carol may not ask either.
			command: `echo "$token" | ` + t.call("carol", placeOrder, buy, "--token-file", "-"),
			try:     onBehalf(t.dave.access, buys(carol, buy)),
			want:    roleRequired,
			why:     "A user lends a workload nothing that it may not do itself: " + t.holds(carol, "orders") + ".",
		},
		{
			what:    "dave asks who he is",
			command: t.commandFor("token", "bob", getSelf, &usersv1.GetSelfRequest{}),
			try:     onBehalf(t.dave.access, asksWhoHeIs(bob)),
			want:    ok,
			why:     "A handler sees both: the user, and the workload through which she calls.",
		},
	} {
		if _, err := t.play(ctx, a); err != nil {
			return err
		}
	}
	return nil
}
