package orders_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	ordersv1 "example.com/rolecall/gen/orders/v1"
	rolecallv1 "example.com/rolecall/gen/rolecall/v1"
	"example.com/rolecall/internal/node/nodetest"
	"example.com/rolecall/internal/store/storetest"
)

// wantPending places an order that ledger cannot judge yet: the customer is told to try again, and nothing is cancelled.
func (s *shop) wantPending(t *testing.T, req *ordersv1.PlaceOrderRequest) {
	t.Helper()
	placed, err := s.alice.PlaceOrder(s.as(t, "dave"), req)
	if !again(err) {
		t.Fatalf("got %v, %v, want to be told to try again", placed, err)
	}
	if stored := s.list(t, "", 0); len(stored) != 1 || stored[0].GetState() != ordersv1.Order_STATE_PENDING {
		t.Fatalf("stored: %v, want one order that is PENDING", stored)
	}
}

func TestASignedPaymentWaitsForAKeyServerThatIsDown(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, url string) {
		s := newShop(t, url, roles)
		w := s.wallet(t, "/service/wallet")
		signed := w.sign(t, s.walletTransfer())
		s.mesh.Keys.To(nil)
		req := s.signedRequest(signed)
		s.wantPending(t, req)
		s.mesh.Keys.To(s.keys)
		placed := s.wantSettled(t, req, ordersv1.Order_STATE_PAID)
		if err := w.proofs.VerifyReceipt(nodetest.Context(t), signed, placed.GetPayment()); err != nil {
			t.Errorf("the receipt: %v", err)
		}
	})
}

func TestASignedPaymentWaitsForTheKeyOfItsSigner(t *testing.T) {
	t.Parallel()
	s := newShop(t, "", roles)
	starting := s.unannounced(t, "/service/wallet")
	req := s.signedRequest(starting.sign(t, s.walletTransfer()))
	s.wantPending(t, req)
	starting.announce(t)
	s.wantSettled(t, req, ordersv1.Order_STATE_PAID)
}

func TestASignedPaymentWaitsForALedgerThatIsDown(t *testing.T) {
	t.Parallel()
	s := newShop(t, "", roles)
	req := s.signedRequest(s.wallet(t, "/service/wallet").sign(t, s.walletTransfer()))
	s.wire.sever()
	s.wantPending(t, req)
	s.wire.mend()
	s.wantSettled(t, req, ordersv1.Order_STATE_PAID)
}

// What could not be verified while its proof was good is cancelled then, and not before; for good.
func TestASignedPaymentIsCancelledOnceItsProofHasExpired(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, url string) {
		s := newShop(t, url, roles)
		w := s.wallet(t, "/service/wallet")
		transfer := s.walletTransfer()
		now := time.Now().Unix()
		// Nobody gets as far as the signature. The ledger takes the proof for a minute, far longer than orders tries at first.
		signed := claiming(t, claiming(t, w.sign(t, transfer), "iat", now), "exp", now+60)
		s.mesh.Keys.To(nil)
		req := s.signedRequest(signed)
		s.wantPending(t, req)
		until(t, "the worker has tried too, and tries again", func() bool { return s.attempts(t) > 2 })
		s.expire(t, req)
		placed := s.wantSettled(t, req, ordersv1.Order_STATE_FAILED)
		if !strings.Contains(placed.GetOrder().GetFailure(), "its proof is not good any more") {
			t.Errorf("it was cancelled for another reason: %v", placed.GetOrder())
		}
		s.mesh.Keys.To(s.keys)
		// It pays for no other order either, fresh proof or not.
		for name, payment := range map[string]*ordersv1.PlaceOrderRequest{
			"the same": s.signedRequest(proto.CloneOf(signed)), "with a fresh proof": s.signedRequest(w.sign(t, transfer)),
		} {
			if placed, err := s.alice.PlaceOrder(s.as(t, "dave"), payment); status.Code(err) != codes.AlreadyExists {
				t.Errorf("%s: got %v, %v, want AlreadyExists", name, placed, err)
			}
		}
		s.wantTakings(t, 0)
	})
}

// attempts returns how many attempts the only request that runs has seen.
func (s *shop) attempts(t *testing.T) (n int) {
	t.Helper()
	db, schema := s.tables(t)
	defer db.Close() //nolint:errcheck // nothing was written
	if err := db.QueryRowContext(t.Context(), "SELECT fence FROM "+schema+"rolecall_requests WHERE state = 'RUNNING'").Scan(&n); err != nil {
		t.Fatalf("attempts: %v", err)
	}
	return n
}

// expire has the proof expire that is stored with the only request that runs.
func (s *shop) expire(t *testing.T, req *ordersv1.PlaceOrderRequest) {
	t.Helper()
	req, now := proto.CloneOf(req), time.Now().Unix()
	claiming(t, claiming(t, req.GetPayment(), "iat", now-90), "exp", now-60)
	text, err := proto.Marshal(req)
	if err != nil {
		t.Fatal(err)
	}
	s.exec(t, "UPDATE", "rolecall_requests", "SET request = $1 WHERE state = 'RUNNING'", text)
}

// ofNoKey is a payment whose proof names a key that nobody has, another one each time: ledger must look for each.
func ofNoKey(signed *rolecallv1.SignedRequest) *rolecallv1.SignedRequest {
	parts := strings.Split(signed.GetProof(), ".")
	header, _ := base64.RawURLEncoding.DecodeString(parts[0])
	at := bytes.Index(header, []byte(`"kid":"`)) + len(`"kid":"`)
	copy(header[at:at+43], strings.ReplaceAll(uuid.NewString(), "-", "_")+"_______")
	parts[0] = base64.RawURLEncoding.EncodeToString(header)
	signed.Proof = strings.Join(parts, ".")
	return signed
}

// Attack: forged payments, each of which has ledger look for another key, use up what orders may ask, or what workers settle.
func TestForgedPaymentsOfOneCustomerCancelNoneOfAnother(t *testing.T) {
	t.Parallel()
	s := newShop(t, "", roles)
	w, eve := s.wallet(t, "/service/wallet"), s.wallet(t, "/service/eve")
	ctx, stop := context.WithCancel(s.as(t, "erin"))
	defer stop()
	var sending sync.WaitGroup
	defer sending.Wait()
	var begun, paid atomic.Int64
	for range 40 {
		sending.Go(func() {
			for ctx.Err() == nil {
				begun.Add(1)
				if placed, _ := s.alice.PlaceOrder(ctx, s.signedRequest(ofNoKey(eve.sign(t, s.walletTransfer())))); placed.GetOrder().GetState() == ordersv1.Order_STATE_PAID {
					paid.Add(1)
				}
			}
		})
	}
	until(t, "forged payments are on their way", func() bool { return begun.Load() >= 40 })
	for range 3 {
		if placed := s.insist(t, "dave", s.signedRequest(w.sign(t, s.walletTransfer()))); placed.GetOrder().GetState() != ordersv1.Order_STATE_PAID {
			t.Errorf("a good payment of another customer: got %v, want it PAID", placed.GetOrder())
		}
	}
	stop()
	sending.Wait()
	if paid.Load() != 0 {
		t.Errorf("%d orders are PAID by forged payments", paid.Load())
	}
	s.wantTakings(t, 3)
}
