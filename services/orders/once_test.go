package orders_test

import (
	"bytes"
	"context"
	"database/sql"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	ledgerv1 "example.com/rolecall/gen/ledger/v1"
	ordersv1 "example.com/rolecall/gen/orders/v1"
	"example.com/rolecall/internal/node/nodetest"
	"example.com/rolecall/internal/store/storetest"
)

// again tells whether an error invites the client to send the same request once more.
func again(err error) bool {
	return status.Code(err) == codes.Unavailable || nodetest.Reason(err) == "REQUEST_IN_PROGRESS"
}

// raw is the codec of a client that keeps the exact bytes of answers.
type raw struct{}

func (raw) Name() string                        { return "proto" }
func (raw) Marshal(message any) ([]byte, error) { return proto.Marshal(message.(proto.Message)) }
func (raw) Unmarshal(data []byte, into any) error {
	*into.(*[]byte) = append([]byte(nil), data...)
	return nil
}

// bytesOf places an order and returns the exact bytes of the answer.
func (s *shop) bytesOf(t *testing.T, username string, req *ordersv1.PlaceOrderRequest) ([]byte, error) {
	t.Helper()
	var answer []byte
	err := s.conn.Invoke(s.as(t, username), ordersv1.OrdersService_PlaceOrder_FullMethodName, req, &answer, grpc.ForceCodec(raw{}))
	return answer, err
}

func TestTheSameRequestTwiceHasOneOrderAndOneAnswer(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, url string) {
		s := newShop(t, url, roles)
		req := s.request()
		first, err := s.bytesOf(t, "dave", req)
		if err != nil {
			t.Fatalf("place order: %v", err)
		}
		second, err := s.bytesOf(t, "dave", req)
		if err != nil || !bytes.Equal(first, second) {
			t.Errorf("first %x, second %x, %v", first, second, err)
		}
		if stored := s.list(t, "", 0); len(stored) != 1 {
			t.Errorf("stored: %v, want one order", stored)
		}
		s.wantTakings(t, 1)
	})
}

func TestAFailedOrderStaysFailedForTheSameRequest(t *testing.T) {
	t.Parallel()
	s := newShop(t, "", roles)
	s.onTransfer(func(context.Context, *ledgerv1.TransferRequest, func() (*ledgerv1.TransferResponse, error)) (*ledgerv1.TransferResponse, error) {
		return nil, status.Error(codes.Internal, "broken")
	})
	req := s.request()
	first, err := s.bytesOf(t, "dave", req)
	if err != nil {
		t.Fatalf("place order: %v", err)
	}
	s.transfer.Store(nil) // ledger is well again
	second, err := s.bytesOf(t, "dave", req)
	if err != nil || !bytes.Equal(first, second) {
		t.Errorf("first %x, second %x, %v", first, second, err)
	}
	s.wantTakings(t, 0)
}

func TestTwentyAtOnceMakeOneOrder(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, url string) {
		s := newShop(t, url, roles)
		req := s.request()
		answers := make([][]byte, 20)
		var wg sync.WaitGroup
		for i := range answers {
			wg.Go(func() {
				for began := time.Now(); time.Since(began) < patience; {
					answer, err := s.bytesOf(t, "dave", req)
					if err == nil {
						answers[i] = answer
						return
					}
					if !again(err) {
						t.Errorf("place order: %v, which is not to be tried again", err)
						return
					}
				}
				t.Errorf("no answer within %s", patience)
			})
		}
		wg.Wait()
		for i, answer := range answers {
			if len(answer) == 0 || !bytes.Equal(answer, answers[0]) {
				t.Errorf("answer %d is %x, the first %x", i, answer, answers[0])
			}
		}
		if stored := s.list(t, "", 0); len(stored) != 1 || stored[0].GetState() != ordersv1.Order_STATE_PAID {
			t.Errorf("stored: %v, want one order that is PAID", stored)
		}
		s.wantTakings(t, 1)
	})
}

func TestTheSameRequestIDWithAnotherPayloadIsRefused(t *testing.T) {
	t.Parallel()
	s := newShop(t, "", roles)
	req := s.request()
	if _, err := s.alice.PlaceOrder(s.as(t, "dave"), req); err != nil {
		t.Fatalf("place order: %v", err)
	}
	req.Item = "two books"
	if _, err := s.alice.PlaceOrder(s.as(t, "dave"), req); nodetest.Reason(err) != "REQUEST_ID_REUSED" {
		t.Errorf("got %v, want REQUEST_ID_REUSED", err)
	}
	s.wantTakings(t, 1)
}

// Attack: the same request_id after expiry.
func TestARequestWhoseAnswerIsForgottenPlacesNoSecondOrder(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, url string) {
		s := newShop(t, url, roles)
		req := s.request()
		placed, err := s.alice.PlaceOrder(s.as(t, "dave"), req)
		if err != nil {
			t.Fatalf("place order: %v", err)
		}
		s.forget(t)
		for range 2 { // the refusal is remembered in its turn
			_, err := s.alice.PlaceOrder(s.as(t, "dave"), req)
			if status.Code(err) != codes.AlreadyExists || !strings.Contains(err.Error(), placed.GetOrder().GetOrderId()) {
				t.Errorf("got %v, want AlreadyExists with the name of %v", err, placed.GetOrder())
			}
		}
		s.wantTakings(t, 1)
	})
}

// forget removes the outcomes of all requests from the database of orders, as their expiry does.
func (s *shop) forget(t *testing.T) {
	t.Helper()
	s.exec(t, "DELETE FROM", "rolecall_requests", "")
}

// exec changes a table of orders behind its back.
func (s *shop) exec(t *testing.T, verb, table, rest string, args ...any) {
	t.Helper()
	db, schema := s.tables(t)
	defer db.Close() //nolint:errcheck // the statement's own error is what counts
	if _, err := db.ExecContext(t.Context(), verb+" "+schema+table+" "+rest, args...); err != nil {
		t.Fatalf("%s %s: %v", verb, table, err)
	}
}

// tables opens the database of orders beside it, and returns what comes before the names of its tables.
func (s *shop) tables(t *testing.T) (db *sql.DB, schema string) {
	t.Helper()
	driver, url := "sqlite", s.database+"?_pragma=busy_timeout(10000)" // orders may be writing
	if strings.HasPrefix(s.database, "postgres") {
		driver, url, schema = "pgx", s.database, "orders."
	}
	db, err := sql.Open(driver, url)
	if err != nil {
		t.Fatal(err)
	}
	return db, schema
}

func TestTheSameRequestIDOfAnotherUserIsAnotherOrder(t *testing.T) {
	t.Parallel()
	s := newShop(t, "", roles)
	daves := s.request()
	erins := s.request()
	erins.RequestId, erins.PayingAccount = daves.GetRequestId(), s.erins
	first, err := s.alice.PlaceOrder(s.as(t, "dave"), daves)
	if err != nil {
		t.Fatalf("dave: %v", err)
	}
	second, err := s.alice.PlaceOrder(s.as(t, "erin"), erins)
	if err != nil || second.GetOrder().GetOrderId() == first.GetOrder().GetOrderId() || second.GetOrder().GetUsername() != "erin" {
		t.Errorf("erin: got %v, %v, want an order of her own beside %v", second, err, first)
	}
	s.wantTakings(t, 2)
}

func TestARequestWithoutARequestIDGetsOneFromTheClient(t *testing.T) {
	t.Parallel()
	s := newShop(t, "", roles)
	req := s.request()
	req.RequestId = ""
	for range 2 {
		if _, err := s.alice.PlaceOrder(s.as(t, "dave"), req); err != nil {
			t.Fatalf("place order: %v", err)
		}
	}
	s.wantTakings(t, 2) // two calls are two orders
}
