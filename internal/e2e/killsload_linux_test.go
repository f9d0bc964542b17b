package e2e_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	ledgerv1 "example.com/rolecall/gen/ledger/v1"
	ordersv1 "example.com/rolecall/gen/orders/v1"
	"example.com/rolecall/interceptors"
)

// shopLoad are eight clients who pay and order: four pay directly, two order on behalf of a user, two order with a payment
// that they have signed themselves.
type shopLoad struct {
	shop           *shop
	ledger         ledgerv1.LedgerServiceClient
	orders         ordersv1.OrdersServiceClient
	relayer        relayer
	user           *userSession
	bank, purse    string // accounts that pay: alice's and the user's
	till           string // that is paid into
	cancel         context.CancelFunc
	clients        sync.WaitGroup
	inFlight, done atomic.Int64

	mu       sync.Mutex
	paid     map[string]string          // transfers that were answered, by request_id
	ordered  map[string]*ordersv1.Order // orders that were answered, by request_id
	attempts int                        // calls that were made for them
	repeated int                        // answered requests that were sent once more
	wrong    []string                   // what must never happen
	codes    map[codes.Code]int         // of attempts that brought no answer
	refused  map[string]int             // final refusals, by message
}

// callAtMost bounds one attempt: what a killed process has swallowed is sent again after it.
const callAtMost = 5 * time.Second

func (s *shop) startLoad(t *testing.T) *shopLoad {
	t.Helper()
	alice := s.caller(t, "alice")
	ledgerConn, err := alice.guard.NewClient("dns:///"+s.ledger.address, parseID(t, s.service(t, "ledger").ID))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ledgerConn.Close() })
	ordersConn, err := alice.guard.NewClient("dns:///"+s.orders.address, parseID(t, s.service(t, "orders").ID))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ordersConn.Close() })
	l := &shopLoad{
		shop: s, ledger: ledgerv1.NewLedgerServiceClient(ledgerConn), orders: ordersv1.NewOrdersServiceClient(ordersConn),
		paid: map[string]string{}, ordered: map[string]*ordersv1.Order{},
		codes: map[codes.Code]int{}, refused: map[string]int{},
	}
	alice.announced(t)
	l.relayer = relayer{orders: l.orders, signer: alice.proofs.Signer(), ledger: parseID(t, s.service(t, "ledger").ID), relay: parseID(t, s.service(t, "orders").ID)}
	dave := s.sampleUser(t, "dave")
	l.user = newUserSession(t, s.caller(t, "bob"), dave)
	await(t, "the ledger of the shop answers", func() error {
		ctx, cancel := context.WithTimeout(t.Context(), callAtMost)
		defer cancel()
		_, err := l.ledger.OpenAccount(ctx, &ledgerv1.OpenAccountRequest{Currency: "EUR"})
		return err
	})
	l.bank, l.till = openAccounts(t, l.ledger, "")
	l.purse, _ = openAccounts(t, l.ledger, "user:"+dave.Username)
	ctx, cancel := context.WithCancel(context.Background())
	l.cancel = cancel
	t.Cleanup(l.stop)
	l.clients.Go(func() { l.user.keep(ctx) })
	for n := range 8 {
		one := l.pay
		if n >= 4 {
			one = func(ctx context.Context) { l.order(ctx, n >= 6) }
		}
		l.clients.Go(func() {
			for ctx.Err() == nil {
				one(context.WithoutCancel(ctx)) // a request that was begun is answered
			}
		})
	}
	return l
}

// stop lets the clients get their last answers.
func (l *shopLoad) stop() {
	l.cancel()
	l.clients.Wait()
}

func (l *shopLoad) flying() int64   { return l.inFlight.Load() }
func (l *shopLoad) answered() int64 { return l.done.Load() }

// until sends a request until it is answered: with success, or with a refusal that is final. It returns the answer's bytes.
func (l *shopLoad) until(ctx context.Context, call func(context.Context) (proto.Message, error)) (proto.Message, error) {
	for began := time.Now(); ; {
		attempt, cancel := context.WithTimeout(ctx, callAtMost)
		l.inFlight.Add(1)
		answer, err := call(attempt)
		l.inFlight.Add(-1)
		cancel()
		l.mu.Lock()
		l.attempts++
		l.mu.Unlock()
		switch code := status.Code(err); code {
		case codes.OK:
			l.done.Add(1)
			return answer, nil
		case codes.InvalidArgument, codes.NotFound, codes.AlreadyExists, codes.FailedPrecondition, codes.OutOfRange, codes.PermissionDenied:
			l.done.Add(1)
			return nil, err
		default:
			l.mu.Lock()
			l.codes[code]++
			l.mu.Unlock()
			if time.Since(began) > 2*time.Minute {
				return nil, fmt.Errorf("no answer within two minutes: %w", err)
			}
			time.Sleep(time.Duration(20+rand.N(80)) * time.Millisecond)
		}
	}
}

// twice sends a request until it is answered, and now and then once more: the two answers are the same to the byte.
func (l *shopLoad) twice(ctx context.Context, what string, call func(context.Context) (proto.Message, error)) (proto.Message, error) {
	first, err := l.until(ctx, call)
	if err != nil || rand.N(4) > 0 {
		return first, err
	}
	second, err := l.until(ctx, call)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.repeated++
	if err != nil || !bytes.Equal(encoded(first), encoded(second)) {
		l.wrong = append(l.wrong, fmt.Sprintf("%s was answered with %v, and repeated with %v, %v", what, first, second, err))
	}
	return first, nil
}

func encoded(m proto.Message) []byte {
	data, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		panic(err)
	}
	return data
}

func (l *shopLoad) pay(ctx context.Context) {
	request := &ledgerv1.TransferRequest{FromAccount: l.bank, ToAccount: l.till, Amount: euro(1), RequestId: uuid.NewString()}
	answer, err := l.twice(ctx, "transfer "+request.GetRequestId(), func(ctx context.Context) (proto.Message, error) {
		return l.ledger.Transfer(ctx, request)
	})
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.wrong = append(l.wrong, fmt.Sprintf("transfer %s: %v", request.GetRequestId(), err))
		return
	}
	l.paid[request.GetRequestId()] = answer.(*ledgerv1.TransferResponse).GetTransfer().GetTransferId()
}

func (l *shopLoad) order(ctx context.Context, signed bool) {
	request := &ordersv1.PlaceOrderRequest{
		Item: "a lamp", Price: euro(1), PayingAccount: l.purse, ReceivingAccount: l.till, RequestId: uuid.NewString(),
	}
	if signed {
		var err error
		if request, err = l.relayer.order(l.bank, l.till); err != nil {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.wrong = append(l.wrong, fmt.Sprintf("sign: %v", err))
			return
		}
	}
	answer, err := l.twice(ctx, "order "+request.GetRequestId(), func(ctx context.Context) (proto.Message, error) {
		return l.orders.PlaceOrder(interceptors.AsUser(ctx, l.user.token()), request)
	})
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.wrong = append(l.wrong, fmt.Sprintf("order %s: %v", request.GetRequestId(), err))
		return
	}
	l.ordered[request.GetRequestId()] = answer.(*ordersv1.PlaceOrderResponse).GetOrder()
}

// check compares the books with what the clients were answered.
func (l *shopLoad) check(t *testing.T) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.user.failed != nil {
		t.Error(l.user.failed)
	}
	for _, what := range l.wrong {
		t.Error(what)
	}
	want := map[string]string{} // transfers that must be in the books, and who was told of them
	for request, transfer := range l.paid {
		want[transfer] = "transfer " + request
	}
	states := map[ordersv1.Order_State]int{}
	for request, order := range l.ordered {
		states[order.GetState()]++
		switch order.GetState() {
		case ordersv1.Order_STATE_PAID:
			if other := want[order.GetTransferId()]; other != "" {
				t.Errorf("transfer %s paid for order %s and for %s", order.GetTransferId(), request, other)
			}
			want[order.GetTransferId()] = "order " + request
		case ordersv1.Order_STATE_FAILED:
			l.refused[order.GetFailure()]++
		default:
			t.Errorf("order %s was answered as %s", request, order.GetState())
		}
	}
	t.Logf("%d transfers and %d orders (%v) were answered, after %d attempts; %d answered requests were repeated; attempts without an answer: %v; failed orders: %v",
		len(l.paid), len(l.ordered), states, l.attempts, l.repeated, l.codes, l.refused)
	l.checkEntries(t, want)
	l.checkOrders(t)
}

// checkEntries looks whether each transfer that was answered is in the books once, and no other one is.
func (l *shopLoad) checkEntries(t *testing.T, want map[string]string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), upTimeout)
	defer cancel()
	counts := map[string]int{}
	var sum int64
	for _, account := range []string{l.bank, l.purse, l.till} {
		balance, err := l.ledger.GetBalance(ctx, &ledgerv1.GetBalanceRequest{AccountId: account})
		if err != nil {
			t.Fatalf("balance: %v", err)
		}
		sum += balance.GetBalance().GetMinorUnits()
		for token, more := "", true; more; more = token != "" {
			page, err := l.ledger.ListEntries(ctx, &ledgerv1.ListEntriesRequest{AccountId: account, PageSize: 1000, PageToken: token})
			if err != nil {
				t.Fatalf("list entries: %v", err)
			}
			for _, e := range page.GetEntries() {
				counts[e.GetTransferId()]++
			}
			token = page.GetNextPageToken()
		}
	}
	for transfer, what := range want {
		if counts[transfer] != 2 {
			t.Errorf("transfer %s, of %s, has %d entries, want 2", transfer, what, counts[transfer])
		}
	}
	for transfer := range counts {
		if want[transfer] == "" {
			t.Errorf("transfer %s is in the books, and nobody was told of it", transfer)
		}
	}
	if sum != 0 {
		t.Errorf("the balances add up to %d, want 0", sum)
	}
	t.Logf("%d transfers are in the books, %d were answered; the balances add up to %d", len(counts), len(want), sum)
}

// checkOrders looks whether each order says what its client was told.
func (l *shopLoad) checkOrders(t *testing.T) {
	t.Helper()
	stored := map[string]*ordersv1.Order{}
	ctx, cancel := context.WithTimeout(t.Context(), upTimeout)
	defer cancel()
	for token, more := "", true; more; more = token != "" {
		page, err := l.orders.ListOrders(ctx, &ordersv1.ListOrdersRequest{PageSize: 1000, PageToken: token})
		if err != nil {
			t.Fatalf("list orders: %v", err)
		}
		for _, o := range page.GetOrders() {
			stored[o.GetOrderId()] = o
		}
		token = page.GetNextPageToken()
	}
	var errs []error
	for request, order := range l.ordered {
		if !proto.Equal(stored[order.GetOrderId()], order) {
			errs = append(errs, fmt.Errorf("order %s is %v, its client was told %v", request, stored[order.GetOrderId()], order))
		}
	}
	if len(stored) != len(l.ordered) {
		errs = append(errs, fmt.Errorf("%d orders are stored, %d were answered", len(stored), len(l.ordered)))
	}
	if err := errors.Join(errs...); err != nil {
		t.Error(err)
	}
}
