package orders

import (
	"fmt"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"google.golang.org/protobuf/proto"

	ledgerv1 "example.com/rolecall/gen/ledger/v1"
	rolecallv1 "example.com/rolecall/gen/rolecall/v1"
	"example.com/rolecall/interceptors"
	"example.com/rolecall/interceptors/exactlyonce"
	"example.com/rolecall/interceptors/proof"
)

// payment is what ledger knows the transfer of an order by, beside the workload that sent it: orders, always.
type payment struct {
	request string // the request_id of the transfer
	// signer is the SPIFFE ID that the proof of a signed payment claims; empty for a transfer that orders asks for itself, on
	// behalf of the user.
	//
	// Nobody has verified the claim when it is stored. It is safe to ask ledger with it all the same, and to cancel: ledger
	// looks only among requests that orders has sent, and of those each belongs to the one order that holds its signer and
	// request_id. Who claims to be another reaches nothing of the other's, or is refused because that payment has an order.
	signer string
	// expires is until when ledger takes a signed payment, as its proof claims; zero if it is not to be passed on any more. It is
	// not stored: the proof is in the stored request.
	expires time.Time
}

// good tells whether ledger may still take a signed payment. Which clock is right does not matter: what is no longer passed on
// is cancelled.
func (p payment) good(now time.Time) bool { return now.Before(p.expires.Add(proof.DefaultLeeway)) }

// signed tells whether the owner of the paying account has signed the payment.
func (p payment) signed() bool { return p.signer != "" }

// maxPaymentRequest bounds the request of a signed payment, in bytes: a TransferRequest with all its fields is shorter than
// half of this. Package proof bounds the proof.
const maxPaymentRequest = 4 << 10

// newPayment checks that a signed request is the payment of the order, and nothing else, and is for orders alone to pass on:
// if another could send it to ledger, it would be paid, and the order would not. Whether it was signed, and by whom, is for
// ledger to say.
func newPayment(signed *rolecallv1.SignedRequest, o order, relay spiffeid.ID) (payment, error) {
	if signed.GetMethod() != ledgerv1.LedgerService_Transfer_FullMethodName {
		return payment{}, interceptors.InvalidField("payment.method", "must be "+ledgerv1.LedgerService_Transfer_FullMethodName)
	}
	var t ledgerv1.TransferRequest
	if n := len(signed.GetRequest()); n > maxPaymentRequest || proto.Unmarshal(signed.GetRequest(), &t) != nil {
		return payment{}, interceptors.InvalidField("payment.request", "must be a ledger.v1.TransferRequest of at most 4 KiB")
	}
	// A field of a newer ledger may change what the payment does, so that it is no longer the one that the rest says.
	if len(t.ProtoReflect().GetUnknown()) > 0 || len(t.GetAmount().ProtoReflect().GetUnknown()) > 0 {
		return payment{}, interceptors.InvalidField("payment.request", "must not hold fields that orders does not know")
	}
	if t.GetFromAccount() != o.payingAccount || t.GetToAccount() != o.receivingAccount ||
		t.GetAmount().GetCurrency() != o.currency || t.GetAmount().GetMinorUnits() != o.minorUnits {
		return payment{}, interceptors.InvalidField("payment.request", "must be a transfer of the price from paying_account to receiving_account")
	}
	id, ok := exactlyonce.RequestID(t.GetRequestId()) // in one spelling, as ledger knows it
	if !ok {
		return payment{}, interceptors.InvalidField("payment.request", "must have a request_id that is a UUID of 36 characters")
	}
	claim, err := proof.Claimed(signed)
	if err != nil {
		return payment{}, interceptors.InvalidField("payment.proof", "must be the proof of a workload about the request beside it")
	}
	if claim.Via != relay {
		return payment{}, interceptors.InvalidField("payment.proof", fmt.Sprintf(
			"must have the claim via, which says that %s alone may pass it on: sign it with rolecall call --sign --via orders, or in Go with proof.Via", relay))
	}
	return payment{request: id, signer: claim.Signer.String(), expires: claim.Expires}, nil
}
