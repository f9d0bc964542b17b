package orders_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	ledgerv1 "example.com/rolecall/gen/ledger/v1"
	ordersv1 "example.com/rolecall/gen/orders/v1"
	rolecallv1 "example.com/rolecall/gen/rolecall/v1"
	"example.com/rolecall/interceptors/proof"
	"example.com/rolecall/internal/node/nodetest"
	"example.com/rolecall/internal/store/storetest"
)

func TestASignedPaymentPaysTheOrderAndItsReceiptReachesTheSigner(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, url string) {
		s := newShop(t, url, roles)
		w := s.wallet(t, "/service/wallet")
		signed := w.sign(t, s.walletTransfer())
		req := s.signedRequest(signed)
		placed, err := s.alice.PlaceOrder(s.as(t, "dave"), req)
		if err != nil || placed.GetOrder().GetState() != ordersv1.Order_STATE_PAID || placed.GetOrder().GetPayer() != "spiffe://mesh.local/service/wallet" {
			t.Fatalf("got %v, %v, want an order that the wallet has paid", placed, err)
		}
		var made ledgerv1.TransferResponse
		if err := proto.Unmarshal(placed.GetPayment().GetResponse(), &made); err != nil {
			t.Fatalf("the answer of ledger: %v", err)
		}
		want := &ledgerv1.TransferRecord{
			TransferId: placed.GetOrder().GetTransferId(), FromAccount: s.wallets, ToAccount: s.till, Amount: req.GetPrice(), Note: "from the wallet",
			CreateTime: made.GetTransfer().GetCreateTime(),
			Caller:     "spiffe://mesh.local/service/orders", Signer: "spiffe://mesh.local/service/wallet",
		}
		if diff := cmp.Diff(want, made.GetTransfer(), protocmp.Transform()); diff != "" {
			t.Errorf("the transfer (-want +got):\n%s", diff)
		}
		if err := w.proofs.VerifyReceipt(nodetest.Context(t), signed, placed.GetPayment()); err != nil {
			t.Errorf("the receipt: %v", err)
		}
		altered := proto.CloneOf(placed.GetPayment())
		altered.Response = append(altered.Response, 0x78, 1)
		if err := w.proofs.VerifyReceipt(nodetest.Context(t), signed, altered); err == nil {
			t.Error("the receipt is good for a response that was altered")
		}
		again, err := s.alice.PlaceOrder(s.as(t, "dave"), req)
		if diff := cmp.Diff(placed, again, protocmp.Transform()); err != nil || diff != "" {
			t.Errorf("the same request again: %v (-first +second):\n%s", err, diff)
		}
		s.wantTakings(t, 1)
	})
}

// Attack: the relay alters the amount.
func TestARelayCannotAlterTheAmount(t *testing.T) {
	t.Parallel()
	s := newShop(t, "", roles)
	w := s.wallet(t, "/service/wallet")
	asked := s.walletTransfer()
	asked.Amount.MinorUnits = 1
	signed := w.sign(t, asked)
	asked.Amount.MinorUnits = price // what somebody would like the wallet to have signed
	var err error
	if signed.Request, err = proto.Marshal(asked); err != nil {
		t.Fatal(err)
	}
	_, err = s.alice.PlaceOrder(s.as(t, "dave"), s.signedRequest(signed))
	if got := fmt.Sprint(violations(err)); got != "[payment.proof]" {
		t.Errorf("orders is given an altered payment: got %v about %s, want it refused for its proof", err, got)
	}
	// An orders that went bad would not look.
	_, err = proof.Forward(nodetest.Context(t), s.mesh.Client(t, "/service/orders", s.ledger), signed)
	if nodetest.Reason(err) != "PROOF_INVALID" {
		t.Errorf("ledger is given an altered payment: got %v, want PROOF_INVALID", err)
	}
	s.wantTakings(t, 0)
}

func TestASignerWhoMayNotPayLeavesAFailedOrder(t *testing.T) {
	t.Parallel()
	s := newShop(t, "", roles)
	for path, why := range map[string]string{
		"/service/eve":    "PermissionDenied", // a writer who does not own the account
		"/service/beggar": "PermissionDenied", // holds no role
	} {
		w := s.wallet(t, path)
		placed, err := s.alice.PlaceOrder(s.as(t, "dave"), s.signedRequest(w.sign(t, s.walletTransfer())))
		if err != nil || placed.GetOrder().GetState() != ordersv1.Order_STATE_FAILED || !strings.Contains(placed.GetOrder().GetFailure(), why) {
			t.Errorf("%s: got %v, %v, want a FAILED order: %s", path, placed, err, why)
		}
	}
	s.wantTakings(t, 0)
}

// Attack: one payment for two orders.
func TestASignedPaymentIsForOneOrderOnly(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, url string) {
		s := newShop(t, url, roles)
		w := s.wallet(t, "/service/wallet")
		transfer := s.walletTransfer()
		signed := w.sign(t, transfer)
		if placed, err := s.alice.PlaceOrder(s.as(t, "dave"), s.signedRequest(signed)); err != nil || placed.GetOrder().GetState() != ordersv1.Order_STATE_PAID {
			t.Fatalf("got %v, %v, want it PAID", placed, err)
		}
		upper := proto.CloneOf(transfer)
		upper.RequestId = strings.ToUpper(transfer.GetRequestId())
		for name, payment := range map[string]*rolecallv1.SignedRequest{
			"the same proof":                          signed,
			"a fresh proof of the same bytes":         w.sign(t, transfer),
			"a fresh proof, request_id in upper case": w.sign(t, upper),
		} {
			for _, username := range []string{"dave", "erin"} {
				placed, err := s.alice.PlaceOrder(s.as(t, username), s.signedRequest(payment))
				if status.Code(err) != codes.AlreadyExists {
					t.Errorf("%s, for %s: got %v, %v, want AlreadyExists", name, username, placed, err)
				}
			}
		}
		if stored := s.list(t, "", 0); len(stored) != 1 {
			t.Errorf("stored: %v, want the one order", stored)
		}
		s.wantTakings(t, 1)
	})
}

// Attack: one payment for ten orders at once.
func TestTenOrdersAtOnceWithOnePaymentAreOne(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, url string) {
		s := newShop(t, url, roles)
		signed := s.wallet(t, "/service/wallet").sign(t, s.walletTransfer())
		codesOf := make(chan codes.Code, 10)
		for range cap(codesOf) {
			ctx, req := s.as(t, "dave"), s.signedRequest(signed)
			go func() {
				_, err := s.alice.PlaceOrder(ctx, req)
				codesOf <- status.Code(err)
			}()
		}
		got := map[codes.Code]int{}
		for range cap(codesOf) {
			got[<-codesOf]++
		}
		if diff := cmp.Diff(map[codes.Code]int{codes.OK: 1, codes.AlreadyExists: 9}, got); diff != "" {
			t.Errorf("answers (-want +got):\n%s", diff)
		}
		if order := s.settled(t); order.GetState() != ordersv1.Order_STATE_PAID {
			t.Errorf("stored: %v, want it PAID", order)
		}
		s.wantTakings(t, 1)
	})
}

// Attack: a proof whose claim names a victim, with a request_id of the victim's.
func TestAFalseClaimOfASignerReachesNoPaymentOfAnother(t *testing.T) {
	t.Parallel()
	s := newShop(t, "", roles)
	w, eve := s.wallet(t, "/service/wallet"), s.wallet(t, "/service/eve")
	transfer := s.walletTransfer()
	victims, err := s.alice.PlaceOrder(s.as(t, "dave"), s.signedRequest(w.sign(t, transfer)))
	if err != nil || victims.GetOrder().GetState() != ordersv1.Order_STATE_PAID {
		t.Fatalf("got %v, %v, want it PAID", victims, err)
	}
	forge := func(transfer *ledgerv1.TransferRequest) *rolecallv1.SignedRequest {
		forged := eve.sign(t, transfer)
		parts := strings.Split(forged.GetProof(), ".")
		claims, err := base64.RawURLEncoding.DecodeString(parts[1])
		if err != nil {
			t.Fatal(err)
		}
		parts[1] = base64.RawURLEncoding.EncodeToString(bytes.ReplaceAll(claims, []byte("/service/eve"), []byte("/service/wallet")))
		forged.Proof = strings.Join(parts, ".")
		return forged
	}
	if placed, err := s.alice.PlaceOrder(s.as(t, "erin"), s.signedRequest(forge(transfer))); status.Code(err) != codes.AlreadyExists {
		t.Errorf("with the victim's request_id: got %v, %v, want AlreadyExists", placed, err)
	}
	placed, err := s.alice.PlaceOrder(s.as(t, "erin"), s.signedRequest(aged(t, forge(s.walletTransfer()))))
	if err != nil || placed.GetOrder().GetState() != ordersv1.Order_STATE_FAILED || placed.GetOrder().GetPayer() != "" {
		t.Errorf("with another: got %v, %v, want a FAILED order", placed, err)
	}
	s.wantTakings(t, 1)
}

func TestALostAnswerToASignedPaymentIsFoundOut(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, url string) {
		s := newShop(t, url, roles)
		w := s.wallet(t, "/service/wallet")
		s.onTransfer(func(_ context.Context, _ *ledgerv1.TransferRequest, next func() (*ledgerv1.TransferResponse, error)) (*ledgerv1.TransferResponse, error) {
			s.wire.swallow()
			return next()
		})
		req := s.signedRequest(w.sign(t, s.walletTransfer()))
		failed := s.calling(t, req)
		until(t, "ledger has paid", func() bool { return s.takings(t) == 1 })
		s.wire.mend() // breaks the connection that swallows; the next one lives
		if err := <-failed; err != nil && !again(err) {
			t.Errorf("got %v, want the outcome, or to be told to try again", err)
		}
		placed := s.wantSettled(t, req, ordersv1.Order_STATE_PAID)
		if placed.GetOrder().GetPayer() != "spiffe://mesh.local/service/wallet" || placed.GetPayment() != nil {
			t.Errorf("got %v, want the payer named, and no receipt: it was lost", placed)
		}
	})
}

func TestACrashWithASignedPaymentUnderWayLosesNothing(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, url string) {
		s := newShop(t, url, roles)
		w := s.wallet(t, "/service/wallet")
		s.wire.sever()
		signed := w.sign(t, s.walletTransfer())
		req := s.signedRequest(signed)
		failed := s.calling(t, req)
		until(t, "the order is stored", func() bool { return len(s.list(t, "", 0)) == 1 })
		s.kill(t)
		<-failed
		s.wire.mend()
		s.start(t)
		placed := s.wantSettled(t, req, ordersv1.Order_STATE_PAID)
		if err := w.proofs.VerifyReceipt(nodetest.Context(t), signed, placed.GetPayment()); err != nil {
			t.Errorf("the receipt of the worker's attempt: %v", err)
		}
	})
}
