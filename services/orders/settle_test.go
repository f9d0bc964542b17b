package orders

import (
	"testing"

	"google.golang.org/protobuf/proto"

	ledgerv1 "example.com/rolecall/gen/ledger/v1"
)

func TestNoOtherTransferIsThePaymentOfAnOrder(t *testing.T) {
	t.Parallel()
	const wallet = "spiffe://mesh.local/service/wallet"
	o := order{currency: "EUR", minorUnits: 1250, payingAccount: "a", receivingAccount: "b", payment: payment{signer: wallet}}
	right := &ledgerv1.TransferRecord{
		TransferId: "1", FromAccount: "a", ToAccount: "b", Amount: &ledgerv1.Money{Currency: "EUR", MinorUnits: 1250}, Signer: wallet,
	}
	if err := o.isPaidBy(right); err != nil {
		t.Errorf("%v: %v", right, err)
	}
	for name, change := range map[string]func(*ledgerv1.TransferRecord){
		"none":                     func(r *ledgerv1.TransferRecord) { proto.Reset(r) },
		"one without an ID":        func(r *ledgerv1.TransferRecord) { r.TransferId = "" },
		"one of another signer":    func(r *ledgerv1.TransferRecord) { r.Signer = "spiffe://mesh.local/service/eve" },
		"one of no signer":         func(r *ledgerv1.TransferRecord) { r.Signer = "" },
		"out of another account":   func(r *ledgerv1.TransferRecord) { r.FromAccount = "c" },
		"into another account":     func(r *ledgerv1.TransferRecord) { r.ToAccount = "c" },
		"of another amount":        func(r *ledgerv1.TransferRecord) { r.Amount.MinorUnits-- },
		"in another currency":      func(r *ledgerv1.TransferRecord) { r.Amount.Currency = "USD" },
		"without an amount at all": func(r *ledgerv1.TransferRecord) { r.Amount = nil },
	} {
		other := proto.CloneOf(right)
		change(other)
		if err := o.isPaidBy(other); err == nil {
			t.Errorf("%s: %v is taken for the payment", name, other)
		}
	}
}
