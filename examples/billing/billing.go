package main

import (
	"context"
	"fmt"

	billingv1 "example.com/rolecall/examples/billing/gen/billing/v1"
	ledgerv1 "example.com/rolecall/gen/ledger/v1"
	"example.com/rolecall/interceptors"
)

// billing answers billing.v1.BillingService. Who gets as far as its methods holds the role that the proto file asks for.
type billing struct {
	billingv1.UnimplementedBillingServiceServer
	ledger ledgerv1.LedgerServiceClient
}

func (b *billing) GetStatement(ctx context.Context, req *billingv1.GetStatementRequest) (*billingv1.GetStatementResponse, error) {
	if req.GetAccountId() == "" {
		return nil, interceptors.InvalidField("account_id", "must not be empty")
	}
	// Whatever else billing may do at the ledger one day, this call is made with no more than the right to read.
	ctx = interceptors.Narrow(ctx, "ledger.reader")
	answer, err := b.ledger.GetBalance(ctx, &ledgerv1.GetBalanceRequest{AccountId: req.GetAccountId()})
	if err != nil {
		return nil, err
	}
	balance := answer.GetBalance()
	return &billingv1.GetStatementResponse{
		Text:    fmt.Sprintf("%s: %s has %s", interceptors.CallerFrom(ctx).ID(), req.GetAccountId(), format(balance)),
		Balance: balance,
	}, nil
}

// format writes minor units of a currency with two decimals: 12.50 EUR.
func format(m *ledgerv1.Money) string {
	sign, units := "", m.GetMinorUnits()
	if units < 0 {
		sign, units = "-", -units
	}
	return fmt.Sprintf("%s%d.%02d %s", sign, units/100, units%100, m.GetCurrency())
}
