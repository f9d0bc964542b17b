package demo

import (
	"context"
	"fmt"

	ordersv1 "example.com/rolecall/gen/orders/v1"
	tokensv1 "example.com/rolecall/gen/tokens/v1"
)

// passedOn shows a payment that one signs and others pass on, who cannot change it.
func (t *tour) passedOn(ctx context.Context) error {
	t.scene("Passed on: who carries a signed payment can lose it, and do nothing else to it")
	alice, bob := t.people["alice"], t.people["bob"]
	erin := t.users["erin"]
	var buying *loggedIn
	if err := t.must(ctx, attempt{
		what:    "erin logs in, to buy a globe that alice pays for",
		command: t.rolecall("login", erin.Username, "--as", "bob", "--role", customerRole) + " --session $tmp/erin.json",
		try:     t.loginAs(bob, erin, &buying, customerRole),
		want:    ok,
		why:     "Her program calls as bob, who may place orders and may not move money.",
	}); err != nil {
		return err
	}
	// A session that nobody will use again is not left behind.
	defer func() { _, _ = bob.tokens.Revoke(ctx, &tokensv1.RevokeRequest{RefreshToken: buying.refresh}) }()
	pay := t.payment("a globe for erin")
	signed, err := t.signForOrders(alice, pay)
	if err != nil {
		return err
	}
	order := &ordersv1.PlaceOrderRequest{Item: "a globe", Price: price(), PayingAccount: t.payer, ReceivingAccount: t.shop}
	buy := &ordersv1.PlaceOrderRequest{Item: order.Item, Price: order.Price, PayingAccount: order.PayingAccount, ReceivingAccount: order.ReceivingAccount, Payment: signed}
	if err := t.must(ctx, attempt{
		what: "alice signs the payment; erin's program hands it to orders, and orders to the ledger",
		command: t.call("alice", transfer, anew(pay), "--sign", "--via", "orders") + " > $tmp/payment.json\n" +
			t.call("bob", placeOrder, order, "--user") + " --session $tmp/erin.json --signed payment=@$tmp/payment.json",
		try:  t.moves(1, onBehalf(buying.access, paysWith(alice, bob, buy))),
		want: ok,
		why:  "The ledger got alice's key from the key server, wants its role of both, orders and alice, and the account to be hers.",
	}); err != nil {
		return err
	}
	return t.brokenInto(ctx)
}

// paysWith places an order that carries a signed payment. Its receipt must be good for who signed it.
func paysWith(payer, through *person, request *ordersv1.PlaceOrderRequest) func(context.Context) outcome {
	return func(ctx context.Context) outcome {
		response, err := through.orders.PlaceOrder(ctx, request)
		got := ordered(response, err)
		if got.code != ok.code {
			return got
		}
		if by := response.GetOrder().GetPayer(); by != payer.id.String() {
			return outcome{code: "paid by somebody else", text: by}
		}
		if err := payer.proofs.VerifyReceipt(ctx, request.GetPayment(), response.GetPayment()); err != nil {
			return outcome{code: "no good receipt", text: err.Error()}
		}
		// Who carries the answer back can no more change it than the request.
		forged := response.GetPayment()
		forged.Response = append(forged.Response, forged.Response...)
		if payer.proofs.VerifyReceipt(ctx, request.GetPayment(), forged) == nil {
			return outcome{code: "a receipt for anything", text: "the ledger's receipt verifies with another answer too"}
		}
		got.noted = fmt.Sprintf("The ledger's receipt came back to %s with the answer, and verifies; with another answer it does not.", payer.name)
		return got
	}
}

// brokenInto shows Eve in the place of orders, with its certificate and key.
func (t *tour) brokenInto(ctx context.Context) error {
	orders, err := t.intruder(ctx, "orders")
	if err != nil {
		return err
	}
	defer orders.close() //nolint:errcheck // its calls have been shown
	signed, err := t.signForOrders(t.people["alice"], t.payment("a hat"))
	if err != nil {
		return err
	}
	more, err := altered(signed)
	if err != nil {
		return err
	}
	own := t.payment("a yacht")
	as := t.rolecall("run", "--id", orders.id.String()) + " -- "
	for _, a := range []attempt{
		{
			what:    "Eve has broken into orders: she moves ten times of what alice signed for the next order",
			command: "# " + as + "CMD; in CMD, in Go: proof.Forward(ctx, conn, &rolecallv1.SignedRequest{...})",
			try:     t.moves(0, forwards(orders.conns["ledger"], more)),
			want:    proofInvalid,
			why:     "She has the certificate of orders, which may move money. The signature is alice's, and over another amount.",
		},
		{
			what:    "she leaves alice's proof away, and signs as orders",
			command: as + t.call("", transfer, anew(own)),
			try:     t.moves(0, calls(orders.ledger.Transfer, own)),
			want:    accountNotOwned,
			why:     "A good proof, of one who does not own the account.",
		},
		{
			what:    "she passes the payment on as it is",
			command: "# likewise",
			try:     t.moves(1, forwards(orders.conns["ledger"], signed)),
			want:    ok,
			why:     "That is all she can do with it, and it is what alice wanted.",
		},
		{
			what:    "and once more",
			command: "# likewise",
			try:     t.moves(0, forwards(orders.conns["ledger"], signed)),
			want:    proofReplayed,
			why:     "Once is all. For more she would need alice's key.",
		},
	} {
		if _, err := t.play(ctx, a); err != nil {
			return err
		}
	}
	return nil
}
