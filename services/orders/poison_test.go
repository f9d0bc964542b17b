package orders_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	ledgerv1 "example.com/rolecall/gen/ledger/v1"
	ordersv1 "example.com/rolecall/gen/orders/v1"
	rolecallv1 "example.com/rolecall/gen/rolecall/v1"
	usersv1 "example.com/rolecall/gen/users/v1"
	"example.com/rolecall/interceptors/proof"
	"example.com/rolecall/internal/node/nodetest"
	"example.com/rolecall/internal/store/storetest"
)

// claiming is a payment whose proof claims another signer, or another server.
func claiming(t *testing.T, signed *rolecallv1.SignedRequest, name string, value any) *rolecallv1.SignedRequest {
	t.Helper()
	parts := strings.Split(signed.GetProof(), ".")
	text, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		t.Fatal(err)
	}
	var claims map[string]any
	if err := json.Unmarshal(text, &claims); err != nil {
		t.Fatal(err)
	}
	claims[name] = value
	if text, err = json.Marshal(claims); err != nil {
		t.Fatal(err)
	}
	parts[1] = base64.RawURLEncoding.EncodeToString(text)
	signed.Proof = strings.Join(parts, ".")
	return signed
}

// aged is a payment whose proof claims to have expired, so lately that ledger takes it for 2 to 3 seconds more.
func aged(t *testing.T, signed *rolecallv1.SignedRequest) *rolecallv1.SignedRequest {
	t.Helper()
	now := time.Now().Unix()
	return claiming(t, claiming(t, signed, "iat", now-62), "exp", now-2)
}

// While ledger answers, an order is settled by the time that its customer has an answer and its proof has expired, whatever she
// has made up. What waits for a key that nobody has announced would wait for a minute; here the proofs are older than that.
func TestNoCustomerMakesAnOrderThatStaysPending(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, url string) {
		s := newShop(t, url, roles)
		eve := s.wallet(t, "/service/eve")
		const prefix = "spiffe://mesh.local/service/"
		claims := func(signer string) func() *ordersv1.PlaceOrderRequest {
			return func() *ordersv1.PlaceOrderRequest {
				return s.signedRequest(aged(t, claiming(t, eve.sign(t, s.walletTransfer()), "iss", signer)))
			}
		}
		transfers := func(change func(*ledgerv1.TransferRequest)) func() *ordersv1.PlaceOrderRequest {
			return func() *ordersv1.PlaceOrderRequest {
				transfer := s.walletTransfer()
				change(transfer)
				return s.signedRequest(eve.sign(t, transfer))
			}
		}
		own := func(change func(*ordersv1.PlaceOrderRequest)) func() *ordersv1.PlaceOrderRequest {
			return func() *ordersv1.PlaceOrderRequest {
				req := s.request()
				change(req)
				return req
			}
		}
		var tests sync.WaitGroup
		for name, tc := range map[string]struct {
			make    func() *ordersv1.PlaceOrderRequest
			refused bool // before anything is stored
		}{
			"a signer of 2,100 bytes":          {claims(prefix + strings.Repeat("e", 2100-len(prefix))), true},
			"a signer of 2,049 bytes":          {claims(prefix + strings.Repeat("e", 2049-len(prefix))), true},
			"a signer of 2,048 bytes":          {claims(prefix + uuids(2048-len(prefix))), false},
			"a signer who is a trust domain":   {claims("spiffe://mesh.local"), true},
			"a signer in other letters":        {claims("spiffe://Mesh.local/service/shop"), true},
			"a signer with an escape":          {claims("spiffe://mesh.local/service/sh%6Fp"), true},
			"a signer who is a user":           {claims("user:dave"), true},
			"a signer of another trust domain": {claims("spiffe://other.example/shop"), false},
			"a signer who is orders itself":    {claims("spiffe://mesh.local/service/orders"), false},
			"a proof for another server": {func() *ordersv1.PlaceOrderRequest {
				return s.signedRequest(claiming(t, eve.sign(t, s.walletTransfer()), "aud", prefix+"users"))
			}, false},
			"a note that ledger does not take":         {transfers(func(r *ledgerv1.TransferRequest) { r.Note = "\x00" }), false},
			"a note that is too long":                  {transfers(func(r *ledgerv1.TransferRequest) { r.Note = strings.Repeat("x", 201) }), false},
			"a request_id in upper case":               {transfers(func(r *ledgerv1.TransferRequest) { r.RequestId = strings.ToUpper(r.RequestId) }), false},
			"a request_id of version 1":                {transfers(func(r *ledgerv1.TransferRequest) { r.RequestId = "c232ab00-9414-11ec-b3c8-9f6bdeced846" }), false},
			"a request_id of ones only":                {transfers(func(r *ledgerv1.TransferRequest) { r.RequestId = uuid.Max.String() }), false},
			"a request_id of zeros only":               {transfers(func(r *ledgerv1.TransferRequest) { r.RequestId = uuid.Nil.String() }), true},
			"a request_id as a URN":                    {transfers(func(r *ledgerv1.TransferRequest) { r.RequestId = "urn:uuid:" + r.RequestId }), true},
			"an account that there is not":             {own(func(r *ordersv1.PlaceOrderRequest) { r.PayingAccount = strings.Repeat("A", 64) }), false},
			"an account of dashes":                     {own(func(r *ordersv1.PlaceOrderRequest) { r.ReceivingAccount = "-" }), false},
			"an account of more letters than there is": {own(func(r *ordersv1.PlaceOrderRequest) { r.PayingAccount = strings.Repeat("A", 65) }), true},
			"more money than there is":                 {own(func(r *ordersv1.PlaceOrderRequest) { r.Price.MinorUnits = math.MaxInt64 }), false},
			"a currency that there is not":             {own(func(r *ordersv1.PlaceOrderRequest) { r.Price.Currency = "ZZZ" }), false},
		} {
			ctx, req := s.as(t, "dave"), tc.make()
			tests.Go(func() {
				placed, err := s.alice.PlaceOrder(ctx, req)
				switch state := placed.GetOrder().GetState(); {
				case tc.refused && status.Code(err) != codes.InvalidArgument:
					t.Errorf("%s: got %v, %v, want InvalidArgument", name, placed, err)
				case !tc.refused && (err != nil || state != ordersv1.Order_STATE_FAILED && state != ordersv1.Order_STATE_PAID):
					t.Errorf("%s: got %v, %v, want an order that is settled", name, placed, err)
				}
			})
		}
		tests.Wait()
		for _, o := range s.list(t, "", 0) {
			if o.GetState() == ordersv1.Order_STATE_PENDING {
				t.Errorf("%v is PENDING, and every caller has an answer", o)
			}
		}
	})
}

// uuids is a text that no database compresses much.
func uuids(n int) (text string) {
	for len(text) < n {
		text += uuid.NewString()
	}
	return text[:n]
}

// Whoever may log in may name her requests: what users takes for a username, ledger takes for a user.
func TestTheOrdersOfEveryUsernameAreSettled(t *testing.T) {
	t.Parallel()
	s := newShop(t, "", roles)
	s.onTransfer(func(context.Context, *ledgerv1.TransferRequest, func() (*ledgerv1.TransferResponse, error)) (*ledgerv1.TransferResponse, error) {
		return nil, status.Error(codes.Internal, "broken")
	})
	admin := usersv1.NewUsersServiceClient(s.mesh.Client(t, "/operator/bank", s.users))
	for _, username := range []string{"a", "z9", "a.", "a..b", "a-_.9", strings.Repeat("z", 64)} {
		if _, err := admin.Create(nodetest.Context(t), &usersv1.CreateRequest{User: &usersv1.User{Username: username}, Password: "correct horse battery"}); err != nil {
			t.Fatalf("create %q: %v", username, err)
		}
		placed, err := s.alice.PlaceOrder(s.as(t, username), s.request())
		if err != nil || placed.GetOrder().GetState() != ordersv1.Order_STATE_FAILED {
			t.Errorf("%q: got %v, %v, want a FAILED order", username, placed, err)
		}
	}
}

// A row with a signer that ledger does not take is settled too, whatever let it in.
func TestAnOrderWithASignerThatLedgerRefusesIsSettled(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, url string) {
		s := newShop(t, url, roles)
		w := s.wallet(t, "/service/wallet")
		s.wire.sever()
		req := s.signedRequest(w.sign(t, s.walletTransfer()))
		failed := s.calling(t, req)
		until(t, "the order is stored", func() bool { return len(s.list(t, "", 0)) == 1 })
		s.kill(t)
		<-failed
		s.exec(t, "UPDATE", "orders", "SET payment_signer = $1", "spiffe://mesh.local/"+strings.Repeat("e", 2100))
		s.wire.mend()
		s.start(t)
		s.wantSettled(t, req, ordersv1.Order_STATE_FAILED)
	})
}

// Ledger looks for the key of a workload that has just started, and the keys service has it a moment later.
func TestAPaymentThatCameBeforeItsSignersKeyIsMadeAllTheSame(t *testing.T) {
	t.Parallel()
	s := newShop(t, "", roles)
	var made atomic.Int64
	s.onTransfer(func(_ context.Context, _ *ledgerv1.TransferRequest, next func() (*ledgerv1.TransferResponse, error)) (*ledgerv1.TransferResponse, error) {
		made.Add(1)
		return next()
	})
	starting := s.unannounced(t, "/service/wallet")
	// Ledger goes by what it is told now for a second: the first attempt of orders is within that.
	_, err := proof.Forward(nodetest.Context(t), s.mesh.Client(t, "/service/orders", s.ledger), starting.sign(t, s.walletTransfer()))
	if nodetest.Reason(err) != "PROOF_SIGNER_UNKNOWN" {
		t.Fatalf("before the key is announced: got %v, want PROOF_SIGNER_UNKNOWN", err)
	}
	starting.announce(t)
	placed, err := s.alice.PlaceOrder(s.as(t, "dave"), s.signedRequest(starting.sign(t, s.walletTransfer())))
	if err != nil || placed.GetOrder().GetState() != ordersv1.Order_STATE_PAID || made.Load() != 1 {
		t.Errorf("got %v, %v, and %d transfers, want it PAID by one", placed, err, made.Load())
	}
}
