package demo

import (
	"context"

	"github.com/google/uuid"

	ledgerv1 "example.com/rolecall/gen/ledger/v1"
)

// price is what is paid in the tour.
func price() *ledgerv1.Money { return &ledgerv1.Money{Currency: "EUR", MinorUnits: 1250} }

// allowed shows calls by those who hold the role.
func (t *tour) allowed(ctx context.Context) error {
	t.scene("Allowed: a role is bound to a SPIFFE ID, and the certificate proves the ID")
	alice, bob := t.people["alice"], t.people["bob"]
	for _, account := range []struct {
		what    string
		name    string
		id      *string
		request *ledgerv1.OpenAccountRequest
	}{
		{"alice opens an account that money comes from", "bank", &t.payer, &ledgerv1.OpenAccountRequest{Currency: "EUR", AllowNegative: true, RequestId: uuid.NewString()}},
		{"and one that it goes to", "shop", &t.shop, &ledgerv1.OpenAccountRequest{Currency: "EUR", RequestId: uuid.NewString()}},
	} {
		if err := t.must(ctx, attempt{
			what:    account.what,
			command: t.opening(account.name, account.request),
			try: func(ctx context.Context) outcome {
				response, err := alice.ledger.OpenAccount(ctx, account.request)
				*account.id = response.GetAccount().GetAccountId()
				return answered(response, err)
			},
			want: ok,
			why:  t.requires(openAccount) + "; " + t.holds(alice, "ledger") + ".",
		}); err != nil {
			return err
		}
	}
	pay := t.payment("")
	if err := t.must(ctx, attempt{
		what:    "alice moves 12.50 euro",
		command: t.call("alice", transfer, anew(pay)),
		try:     calls(alice.ledger.Transfer, pay),
		want:    ok,
		why:     t.requires(transfer) + ", which ledger.admin includes.",
	}); err != nil {
		return err
	}
	read := &ledgerv1.GetBalanceRequest{AccountId: t.shop}
	return t.must(ctx, attempt{
		what:    "bob reads the balance",
		command: t.command("bob", getBalance, read),
		try:     calls(bob.ledger.GetBalance, read),
		want:    ok,
		why:     t.requires(getBalance) + "; " + t.holds(bob, "ledger") + ".",
	})
}

// denied shows calls by those who do not.
func (t *tour) denied(ctx context.Context) error {
	t.scene("Denied: a good certificate is not enough")
	bob, carol := t.people["bob"], t.people["carol"]
	open := &ledgerv1.OpenAccountRequest{Currency: "EUR", AllowNegative: true, RequestId: uuid.NewString()}
	if _, err := t.play(ctx, attempt{
		what:    "bob, who may read, opens an account",
		command: t.command("bob", openAccount, open),
		try:     calls(bob.ledger.OpenAccount, open),
		want:    roleRequired,
		why:     t.requires(openAccount) + "; " + t.holds(bob, "ledger") + ".",
	}); err != nil {
		return err
	}
	pay := t.payment("")
	_, err := t.play(ctx, attempt{
		what:    "carol, whom the mesh knows, moves money",
		command: t.call("carol", transfer, anew(pay)),
		try:     calls(carol.ledger.Transfer, pay),
		want:    roleRequired,
		why:     t.requires(transfer) + "; " + t.holds(carol, "ledger") + ". The request was refused before it was read.",
	})
	return err
}
