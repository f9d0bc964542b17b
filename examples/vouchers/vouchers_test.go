package main

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	vouchersv1 "example.com/rolecall/examples/vouchers/gen/vouchers/v1"
	"example.com/rolecall/interceptors"
	"example.com/rolecall/interceptors/proof"
)

const requestID = "5b1a4c0e-7a8e-4f0e-9d43-0d1f6f6a1b7c"

func TestAVoucherIsRedeemedOnceHoweverOftenTheRequestComes(t *testing.T) {
	t.Parallel()
	m := start(t)
	voucher, till := m.issue(t), m.till(t)
	req := &vouchersv1.RedeemRequest{VoucherId: voucher, Cents: 300, RequestId: requestID}
	want := &vouchersv1.RedeemResponse{
		Voucher: &vouchersv1.Voucher{VoucherId: voucher, Cents: 700}, RedeemedBy: "spiffe://mesh.local/till/1",
	}
	for range 3 {
		got, err := till.Redeem(t.Context(), req)
		if diff := cmp.Diff(want, got, protocmp.Transform()); err != nil || diff != "" {
			t.Fatalf("Redeem: %v (-want +got):\n%s", err, diff)
		}
	}
	m.wantCents(t, voucher, 700)

	for _, test := range []struct {
		name   string
		req    *vouchersv1.RedeemRequest
		code   codes.Code
		reason string
	}{
		{"another amount for the same request_id", &vouchersv1.RedeemRequest{VoucherId: voucher, Cents: 400, RequestId: requestID}, codes.FailedPrecondition, "REQUEST_ID_REUSED"},
		{"more than there is", &vouchersv1.RedeemRequest{VoucherId: voucher, Cents: 701}, codes.FailedPrecondition, ""},
		{"less than nothing", &vouchersv1.RedeemRequest{VoucherId: voucher, Cents: -1}, codes.InvalidArgument, "INVALID_FIELD"},
	} {
		if _, err := till.Redeem(t.Context(), test.req); status.Code(err) != test.code || reason(err) != test.reason {
			t.Errorf("%s: %v with reason %q, want %v with reason %q", test.name, err, reason(err), test.code, test.reason)
		}
	}
	m.wantCents(t, voucher, 700)
}

func TestARequestWithoutProofIsRefused(t *testing.T) {
	t.Parallel()
	m := start(t)
	voucher := m.issue(t)
	// alice holds the role, and her guard was not given the feature.
	_, err := m.Redeem(t.Context(), &vouchersv1.RedeemRequest{VoucherId: voucher, Cents: 300})
	if status.Code(err) != codes.Unauthenticated || reason(err) != "PROOF_REQUIRED" {
		t.Errorf("Redeem: %v, want PROOF_REQUIRED", err)
	}
	m.wantCents(t, voucher, 1000)
}

func TestTheShopPassesOnWhatATillHasSigned(t *testing.T) {
	t.Parallel()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	m := start(t)
	voucher, server, ctx := m.issue(t), m.ca.ID("/service/vouchers"), t.Context()
	proofs := m.keys.Feature()
	newGuard(t, m.ca, "/till/2", nil, interceptors.With(proofs))
	conn := m.connect(t, newGuard(t, m.ca, "/service/shop", nil, interceptors.With(m.keys.Feature())))
	req := &vouchersv1.RedeemRequest{VoucherId: voucher, Cents: 300, RequestId: requestID}

	// The till: once the key server knows its key.
	check(proofs.Announced(ctx))
	signed, err := proofs.Signer().Sign(server, req, vouchersv1.VouchersService_Redeem_FullMethodName)
	check(err)
	// The shop: over its own connection to vouchers.
	answer, err := proof.Forward(ctx, conn, signed)
	check(err)
	// The till again: it was vouchers that answered so.
	check(proofs.VerifyReceipt(ctx, signed, answer))

	var redeemed vouchersv1.RedeemResponse
	check(proto.Unmarshal(answer.GetResponse(), &redeemed))
	if redeemed.GetRedeemedBy() != "spiffe://mesh.local/till/2" {
		t.Errorf("redeemed by %q, want till 2", redeemed.GetRedeemedBy())
	}
	if _, err := proof.Forward(ctx, conn, signed); reason(err) != "PROOF_REPLAYED" {
		t.Errorf("the same proof again: %v, want PROOF_REPLAYED", err)
	}
	m.wantCents(t, voucher, 700)
}

func TestAnExchangeIsPaidOnceOrGivenBack(t *testing.T) {
	t.Parallel()
	m := start(t)
	voucher, till := m.issue(t), m.till(t)
	req := &vouchersv1.ExchangeRequest{VoucherId: voucher, Cents: 400, AccountId: "savings", RequestId: requestID}
	m.ledger.down.Store(true)
	if got, err := till.Exchange(t.Context(), req); err == nil {
		t.Fatalf("Exchange while the ledger is down: %v", got)
	}
	m.wantCents(t, voucher, 600)
	m.ledger.returns.Store(true)
	var answer *vouchersv1.ExchangeResponse
	err := status.Error(codes.Unknown, "not asked yet")
	for began := time.Now(); err != nil && time.Since(began) < time.Minute; {
		answer, err = till.Exchange(t.Context(), req)
	}
	if err != nil || answer.GetTransferId() == "" || m.ledger.paid.Load() != 400 {
		t.Fatalf("Exchange: %v, %v, and %d cents are paid; want 400", answer, err, m.ledger.paid.Load())
	}
	if again, err := till.Exchange(t.Context(), req); err != nil || !proto.Equal(again, answer) || m.ledger.paid.Load() != 400 {
		t.Errorf("the same again: %v, %v, want %v", again, err, answer)
	}
	m.wantCents(t, voucher, 600)

	_, err = till.Exchange(t.Context(), &vouchersv1.ExchangeRequest{VoucherId: voucher, Cents: 400, AccountId: "closed"})
	if status.Code(err) != codes.FailedPrecondition {
		t.Errorf("Exchange to a closed account: %v, want FailedPrecondition", err)
	}
	m.wantCents(t, voucher, 600)
}

// What another server says need not even be text, and is not for the caller of this one.
func TestTheWordsOfTheLedgerAreNotPassedOn(t *testing.T) {
	t.Parallel()
	for name, refusal := range map[string]error{
		"words":                     status.Error(codes.FailedPrecondition, "account 7 of dave holds 3 cents"),
		"bytes that are no text":    status.Error(codes.NotFound, "\xff\xfe"),
		"a code that there is not":  status.Error(codes.Code(99), "\x00"),
		"an error of the transport": context.DeadlineExceeded,
	} {
		got := status.Convert(unpaid(t.Context(), refusal))
		want := "the ledger has not paid: " + status.Code(refusal).String()
		if _, err := proto.Marshal(got.Proto()); err != nil || got.Code() != codes.FailedPrecondition || got.Message() != want {
			t.Errorf("%s: got %v, %v, want %q", name, got, err, want)
		}
	}
}
