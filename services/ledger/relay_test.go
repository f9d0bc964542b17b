package ledger_test

import (
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	ledgerv1 "example.com/rolecall/gen/ledger/v1"
	rolecallv1 "example.com/rolecall/gen/rolecall/v1"
	"example.com/rolecall/internal/node/nodetest"
)

func TestAWorkloadPassesOnWhatTheOwnerOfTheAccountHasSigned(t *testing.T) {
	each(t, func(t *testing.T, b *books) {
		ctx := nodetest.Context(t)
		shops, orders := b.open(t, "/service/shop", 100), b.open(t, "/service/orders", 0)
		signed := b.announced(t, "/service/shop").sign(t, b.service, transfer(shops, orders, 30))
		relay := b.hand(t, "/service/orders").dial(t, b.service)
		response, err := forward(ctx, relay, signed)
		if err != nil {
			t.Fatalf("transfer: %v", err)
		}
		made := record(t, response)
		want := &ledgerv1.TransferRecord{
			FromAccount: shops, ToAccount: orders, Amount: eur(30), Caller: "spiffe://mesh.local/service/orders", Signer: "spiffe://mesh.local/service/shop",
		}
		ignore := protocmp.IgnoreFields(&ledgerv1.TransferRecord{}, "transfer_id", "create_time")
		if diff := cmp.Diff(want, made, protocmp.Transform(), ignore); diff != "" {
			t.Errorf("transfer (-want +got):\n%s", diff)
		}
		if got := b.balance(t, shops); got != 70 {
			t.Errorf("balance: got %d, want 70", got)
		}
		id := requestIDOf(t, signed)
		read, err := ledgerv1.NewLedgerServiceClient(relay).GetTransfer(ctx, &ledgerv1.GetTransferRequest{RequestId: id, Signer: want.GetSigner()})
		if diff := cmp.Diff(made, read.GetTransfer(), protocmp.Transform()); diff != "" || err != nil {
			t.Errorf("read by the request: %v (-answered +read):\n%s", err, diff)
		}
		for name, by := range map[string]*ledgerv1.GetTransferRequest{
			"/service/orders": {RequestId: id},                           // as if it had signed it
			"/service/shop":   {RequestId: id, Signer: want.GetSigner()}, // as if it had sent it
		} {
			if _, err := b.as(t, name).GetTransfer(ctx, by); status.Code(err) != codes.NotFound {
				t.Errorf("%s reads %v: got %v, want NotFound", name, by, err)
			}
		}
	})
}

func TestARelayedRequestThatIsCancelledIsRefusedWhenItArrives(t *testing.T) {
	t.Parallel()
	b := newBooks(t, "")
	ctx := nodetest.Context(t)
	shops, orders := b.open(t, "/service/shop", 100), b.open(t, "/service/orders", 0)
	signed := b.announced(t, "/service/shop").sign(t, b.service, transfer(shops, orders, 30))
	relay := b.hand(t, "/service/orders").dial(t, b.service)
	cancel := &ledgerv1.CancelTransferRequest{RequestId: requestIDOf(t, signed), Signer: "spiffe://mesh.local/service/shop"}
	if answer, err := ledgerv1.NewLedgerServiceClient(relay).CancelTransfer(ctx, cancel); err != nil || answer.GetTransfer() != nil {
		t.Fatalf("cancel: %v, %v, want no transfer", answer, err)
	}
	if _, err := forward(ctx, relay, signed); nodetest.Reason(err) != "TRANSFER_CANCELLED" {
		t.Errorf("a delayed first attempt after a stored refusal: got %v, want TRANSFER_CANCELLED", err)
	}
	if got := b.balance(t, shops); got != 100 {
		t.Errorf("balance: got %d, want 100", got)
	}
}

// The data check is made for the signer, whoever passes the request on, and for whom.
func TestWhoseAccountsPayWhenARequestIsPassedOn(t *testing.T) {
	t.Parallel()
	k := newBank(t, "")
	sink := k.account(t, "spiffe://mesh.local/service/sink", 0)
	shops, others := k.account(t, "spiffe://mesh.local/service/shop", 100), k.account(t, "spiffe://mesh.local/service/other", 100)
	orders, daves := k.account(t, "spiffe://mesh.local/service/orders", 100), k.account(t, "user:dave", 100)
	bobs, alices := k.account(t, "spiffe://mesh.local/operator/bob", 100), k.account(t, "spiffe://mesh.local/operator/alice", 100)
	hands := map[string]*hand{}
	for _, path := range []string{"/service/shop", "/service/orders", "/operator/alice", "/operator/anna", "/operator/bob"} {
		hands[path] = k.announced(t, path)
	}
	for _, tc := range []struct {
		name          string
		signer, relay string
		ctx           context.Context
		from          string
		want          string // the reason of the refusal
	}{
		{"the signer's own account", "/service/shop", "/service/orders", nodetest.Context(t), shops, ""},
		{"the account of the one who passes it on", "/service/shop", "/service/orders", nodetest.Context(t), orders, "ACCOUNT_NOT_OWNED"},
		{"the account of another, passed on by an administrator", "/service/shop", "/operator/alice", nodetest.Context(t), others, "ACCOUNT_NOT_OWNED"},
		{"the administrator's own, passed on by that one", "/service/shop", "/operator/alice", nodetest.Context(t), alices, "ACCOUNT_NOT_OWNED"},
		{"the account of another, signed by an administrator", "/operator/alice", "/service/orders", nodetest.Context(t), others, "ACCOUNT_NOT_OWNED"},
		{"the account of another, signed by an administrator, passed on by another", "/operator/anna", "/operator/alice", nodetest.Context(t), others, ""},
		{"the administrator's own, signed by that one", "/operator/alice", "/service/orders", nodetest.Context(t), alices, ""},
		{"a signer without the role", "/operator/bob", "/service/orders", nodetest.Context(t), bobs, "ROLE_REQUIRED"},
		{"a relay without the role", "/service/shop", "/operator/bob", nodetest.Context(t), shops, "ROLE_REQUIRED"},
		{"the account of a user on whose behalf the other calls", "/service/shop", "/service/orders", k.dave(t), daves, "ACCOUNT_NOT_OWNED"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			before := k.balance(t, tc.from)
			signed := hands[tc.signer].sign(t, k.service, transfer(tc.from, sink, 1))
			_, err := forward(tc.ctx, hands[tc.relay].dial(t, k.service), signed)
			if nodetest.Reason(err) != tc.want || (err == nil) != (tc.want == "") {
				t.Errorf("got %v, want %q", err, tc.want)
			}
			moved := int64(0)
			if tc.want == "" {
				moved = 1
			}
			if after := k.balance(t, tc.from); before-after != moved {
				t.Errorf("the paying account went from %d to %d", before, after)
			}
		})
	}
}

// Attack: who passes a request on pays himself more.
func TestAnAmountThatWasChangedOnTheWayIsRefused(t *testing.T) {
	t.Parallel()
	b := newBooks(t, "")
	shops, orders := b.open(t, "/service/shop", 100), b.open(t, "/service/orders", 0)
	signed := b.announced(t, "/service/shop").sign(t, b.service, transfer(shops, orders, 1))
	changed := proto.CloneOf(signed)
	req := requestOf(t, signed)
	req.Amount.MinorUnits = 100
	var err error
	if changed.Request, err = proto.Marshal(req); err != nil {
		t.Fatal(err)
	}
	relay := b.hand(t, "/service/orders").dial(t, b.service)
	if _, err := forward(nodetest.Context(t), relay, changed); nodetest.Reason(err) != "PROOF_INVALID" {
		t.Errorf("with another amount: got %v, want PROOF_INVALID", err)
	}
	if _, err := forward(nodetest.Context(t), relay, signed); err != nil {
		t.Errorf("unchanged: %v", err) // the attempt has not used the proof up
	}
	if got := b.balance(t, shops); got != 99 {
		t.Errorf("balance: got %d, want 99", got)
	}
}

func TestTheAuditRecordOfARelayedTransferNamesBothWorkloads(t *testing.T) {
	t.Parallel()
	k := newBank(t, "")
	shops, orders := k.open(t, "/service/shop", 100), k.open(t, "/service/orders", 0)
	signed := k.announced(t, "/service/shop").sign(t, k.service, transfer(shops, orders, 1))
	if _, err := forward(nodetest.Context(t), k.hand(t, "/service/orders").dial(t, k.service), signed); err != nil {
		t.Fatal(err)
	}
	record := k.audit.Wait(t, "the transfer", func(r map[string]any) bool {
		return r["method"] == ledgerv1.LedgerService_Transfer_FullMethodName && r["signer"] == "spiffe://mesh.local/service/shop"
	})
	if record["workload"] != "spiffe://mesh.local/service/orders" || record["verdict"] != "allowed" {
		t.Errorf("record %v, want the workload orders and the signer shop", record)
	}
}

func requestOf(t *testing.T, signed *rolecallv1.SignedRequest) *ledgerv1.TransferRequest {
	t.Helper()
	var req ledgerv1.TransferRequest
	if err := proto.Unmarshal(signed.GetRequest(), &req); err != nil {
		t.Fatal(err)
	}
	return &req
}

func requestIDOf(t *testing.T, signed *rolecallv1.SignedRequest) string {
	t.Helper()
	return requestOf(t, signed).GetRequestId()
}
