package orders_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"

	keysv1 "example.com/rolecall/gen/keys/v1"
	ledgerv1 "example.com/rolecall/gen/ledger/v1"
	ordersv1 "example.com/rolecall/gen/orders/v1"
	rolecallv1 "example.com/rolecall/gen/rolecall/v1"
	"example.com/rolecall/interceptors"
	"example.com/rolecall/interceptors/proof"
	"example.com/rolecall/internal/node/nodetest"
)

// wallet is a workload that signs payments for others to pass on.
type wallet struct {
	proofs *proof.Feature
	signer *proof.Signer
	ledger spiffeid.ID
	orders spiffeid.ID
	// announce has the keys service know the key. It is there for a wallet that was not announced.
	announce func(t *testing.T)
}

// unannounced is a workload whose key nobody knows yet.
func (s *shop) unannounced(t *testing.T, path string) *wallet {
	t.Helper()
	source := s.mesh.CA.Source(path)
	return &wallet{signer: proof.NewSigner(source), ledger: s.ledger.ID, orders: s.service.ID, announce: func(t *testing.T) {
		t.Helper()
		guard, err := interceptors.New(source, nil, interceptors.Audit(slog.DiscardHandler))
		if err != nil {
			t.Fatalf("guard of %s: %v", path, err)
		}
		defer guard.Close() //nolint:errcheck // the answer is all that counts
		conn, err := guard.NewClient("dns:///"+s.keys.Addr, s.keys.ID)
		if err != nil {
			t.Fatalf("connect to the keys service: %v", err)
		}
		defer conn.Close() //nolint:errcheck // see above
		if _, err := keysv1.NewKeysServiceClient(conn).Announce(nodetest.Context(t), &keysv1.AnnounceRequest{}); err != nil {
			t.Fatalf("announce the key of %s: %v", path, err)
		}
	}}
}

// wallet starts a workload, and waits until its key is known.
func (s *shop) wallet(t *testing.T, path string) *wallet {
	t.Helper()
	proofs := proof.New(proof.Config{Target: "dns:///" + s.keys.Addr, Server: s.keys.ID})
	guard, err := interceptors.New(s.mesh.CA.Source(path), nil, interceptors.With(proofs), interceptors.Audit(slog.DiscardHandler))
	if err != nil {
		t.Fatalf("guard of %s: %v", path, err)
	}
	t.Cleanup(func() {
		if err := guard.Close(); err != nil {
			t.Errorf("close the guard of %s: %v", path, err)
		}
	})
	directory := keysv1.NewKeysServiceClient(s.mesh.Client(t, "/operator/alice", s.keys))
	until(t, "the key is announced", func() bool {
		_, err := directory.GetKeys(nodetest.Context(t), &keysv1.GetKeysRequest{SpiffeId: s.mesh.CA.ID(path).String()})
		return err == nil
	})
	return &wallet{proofs: proofs, signer: proofs.Signer(), ledger: s.ledger.ID, orders: s.service.ID}
}

// sign signs a transfer for ledger, which orders is to pass on.
func (w *wallet) sign(t *testing.T, req *ledgerv1.TransferRequest) *rolecallv1.SignedRequest {
	t.Helper()
	return w.signFor(t, req, proof.Via(w.orders))
}

// signFor signs one that is for others to pass on.
func (w *wallet) signFor(t *testing.T, req *ledgerv1.TransferRequest, opts ...proof.SignOption) *rolecallv1.SignedRequest {
	t.Helper()
	signed, err := w.signer.Sign(w.ledger, req, ledgerv1.LedgerService_Transfer_FullMethodName, opts...)
	if err != nil {
		t.Fatalf("sign: %v", err)
	}
	return signed
}

// walletTransfer is the payment of an order out of the wallet's account.
func (s *shop) walletTransfer() *ledgerv1.TransferRequest {
	return &ledgerv1.TransferRequest{
		FromAccount: s.wallets, ToAccount: s.till, Amount: &ledgerv1.Money{Currency: "EUR", MinorUnits: price},
		Note: "from the wallet", RequestId: uuid.NewString(),
	}
}

// signedRequest is an order of dave's that comes with a payment.
func (s *shop) signedRequest(payment *rolecallv1.SignedRequest) *ordersv1.PlaceOrderRequest {
	req := s.request()
	req.PayingAccount, req.Payment = s.wallets, payment
	return req
}

func TestAPaymentMustBeThatOfTheOrder(t *testing.T) {
	t.Parallel()
	s := newShop(t, "", roles)
	w := s.wallet(t, "/service/wallet")
	signed := func(change func(*ledgerv1.TransferRequest)) *rolecallv1.SignedRequest {
		transfer := s.walletTransfer()
		change(transfer)
		return w.sign(t, transfer)
	}
	good := func(change func(*rolecallv1.SignedRequest)) *rolecallv1.SignedRequest {
		signed := w.sign(t, s.walletTransfer())
		change(signed)
		return signed
	}
	unknown := protowire.AppendVarint(protowire.AppendTag(nil, 99, protowire.VarintType), 1)
	for name, tc := range map[string]struct {
		payment *rolecallv1.SignedRequest
		field   string
	}{
		"nothing in it":         {&rolecallv1.SignedRequest{}, "payment.method"},
		"another method":        {good(func(r *rolecallv1.SignedRequest) { r.Method = ledgerv1.LedgerService_OpenAccount_FullMethodName }), "payment.method"},
		"no request":            {good(func(r *rolecallv1.SignedRequest) { r.Request = nil }), "payment.request"},
		"a request that is not": {good(func(r *rolecallv1.SignedRequest) { r.Request = []byte("\xff") }), "payment.request"},
		"a request of 4 KiB and more": {good(func(r *rolecallv1.SignedRequest) {
			r.Request = append(r.Request, bytes.Repeat([]byte{0x22, 1, 'x'}, 1400)...)
		}), "payment.request"},
		"a field that orders does not know": {good(func(r *rolecallv1.SignedRequest) { r.Request = append(r.Request, unknown...) }), "payment.request"},
		"one in the amount":                 {signed(func(r *ledgerv1.TransferRequest) { r.Amount.ProtoReflect().SetUnknown(unknown) }), "payment.request"},
		"a lower amount":                    {signed(func(r *ledgerv1.TransferRequest) { r.Amount.MinorUnits-- }), "payment.request"},
		"a higher amount":                   {signed(func(r *ledgerv1.TransferRequest) { r.Amount.MinorUnits++ }), "payment.request"},
		"another currency":                  {signed(func(r *ledgerv1.TransferRequest) { r.Amount.Currency = "USD" }), "payment.request"},
		"out of another account":            {signed(func(r *ledgerv1.TransferRequest) { r.FromAccount = s.daves }), "payment.request"},
		"to another account":                {signed(func(r *ledgerv1.TransferRequest) { r.ToAccount = s.erins }), "payment.request"},
		"no request_id":                     {signed(func(r *ledgerv1.TransferRequest) { r.RequestId = "" }), "payment.request"},
		"a request_id that is no UUID":      {signed(func(r *ledgerv1.TransferRequest) { r.RequestId = "1" }), "payment.request"},
		"a request_id in braces":            {signed(func(r *ledgerv1.TransferRequest) { r.RequestId = "{" + r.RequestId + "}" }), "payment.request"},
		"no proof":                          {good(func(r *rolecallv1.SignedRequest) { r.Proof = "" }), "payment.proof"},
		"a proof of 4 KiB and more":         {good(func(r *rolecallv1.SignedRequest) { r.Proof += strings.Repeat("A", 4<<10) }), "payment.proof"},
		"a proof with a line break":         {good(func(r *rolecallv1.SignedRequest) { r.Proof += "\n" }), "payment.proof"},
		"the proof of another payment":      {good(func(r *rolecallv1.SignedRequest) { r.Proof = w.sign(t, s.walletTransfer()).GetProof() }), "payment.proof"},
		"a proof that anybody may pass on":  {w.signFor(t, s.walletTransfer()), "payment.proof"},
		"a proof for eve to pass on":        {w.signFor(t, s.walletTransfer(), proof.Via(s.mesh.CA.ID("/service/eve"))), "payment.proof"},
		"a receipt for a proof":             {good(func(r *rolecallv1.SignedRequest) { r.Proof = "e30.e30.e30" }), "payment.proof"},
	} {
		_, err := s.alice.PlaceOrder(s.as(t, "dave"), s.signedRequest(tc.payment))
		if got := fmt.Sprint(violations(err)); status.Code(err) != codes.InvalidArgument || got != "["+tc.field+"]" {
			t.Errorf("%s: got %v about the fields %s, want InvalidArgument about %s", name, err, got, tc.field)
		}
	}
	if stored := s.list(t, "", 0); len(stored) != 0 {
		t.Errorf("stored: %v", stored)
	}
}
