package demo

import (
	"context"

	"github.com/google/uuid"

	ordersv1 "example.com/rolecall/gen/orders/v1"
	tokensv1 "example.com/rolecall/gen/tokens/v1"
	"example.com/rolecall/interceptors"
)

// narrowed shows roles that are given up, by a user for a session and by a workload for a call.
func (t *tour) narrowed(ctx context.Context) error {
	t.scene("Narrowed: what you do not need for this, leave at home")
	alice, bob := t.people["alice"], t.people["bob"]
	erin := t.users["erin"]
	var reading *loggedIn
	if err := t.must(ctx, attempt{
		what:    "erin, who may buy and read, logs in to read",
		command: "erin=$(" + t.rolecall("login", erin.Username, "--as", "bob", "--role", ordersReader) + " --session $tmp/erin.json)",
		try:     t.loginAs(bob, erin, &reading, ordersReader),
		want:    ok,
		why:     "The token carries what was asked for, and never more than the user holds.",
	}); err != nil {
		return err
	}
	// A session that nobody will use again is not left behind.
	defer func() { _, _ = bob.tokens.Revoke(ctx, &tokensv1.RevokeRequest{RefreshToken: reading.refresh}) }()
	list := &ordersv1.ListOrdersRequest{Username: "dave", PageSize: 1}
	buy := &ordersv1.PlaceOrderRequest{Item: "a lamp", Price: price(), PayingAccount: t.purse, ReceivingAccount: t.shop, RequestId: uuid.NewString()}
	pay := t.payment("")
	for _, a := range []attempt{
		{
			what:    "she reads dave's orders",
			command: t.commandFor("erin", "bob", listOrders, list),
			try:     onBehalf(reading.access, calls(bob.orders.ListOrders, list)),
			want:    ok,
			why:     "Others' orders are for users whose token carries orders.reader.",
		},
		{
			what:    "and cannot buy, whatever she holds",
			command: t.commandFor("erin", "bob", placeOrder, buy),
			try:     onBehalf(reading.access, buys(bob, buy)),
			want:    userRoleRequired,
			why:     "A role that is not part of the token is not held, here or at any service further down.",
		},
		{
			what:    "a workload does the same for one call: alice, narrowed to reading, moves money",
			command: t.call("alice", transfer, anew(pay), "--role-subset", readerRole),
			try: func(ctx context.Context) outcome {
				return calls(alice.ledger.Transfer, pay)(interceptors.Narrow(ctx, readerRole))
			},
			want: roleRequired,
			why:  t.holds(alice, "ledger") + ", and gave all but " + readerRole + " up. In Go: interceptors.Narrow(ctx, \"" + readerRole + "\").",
		},
	} {
		if _, err := t.play(ctx, a); err != nil {
			return err
		}
	}
	return nil
}
