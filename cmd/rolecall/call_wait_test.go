package main

import (
	"context"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/dynamicpb"

	ordersv1 "example.com/rolecall/gen/orders/v1"
	"example.com/rolecall/internal/call"
	"example.com/rolecall/internal/cli"
)

// heard is what is said, line by line.
type heard chan string

func (h heard) Write(p []byte) (int, error) {
	h <- string(p)
	return len(p), nil
}

func TestALongWaitIsExplained(t *testing.T) {
	t.Parallel()
	silent, err := net.Listen("tcp", "127.0.0.1:0") // takes connections, and says nothing
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { silent.Close() })
	at := "passthrough:///" + silent.Addr().String() + ",spiffe://mesh.local/service/"
	for line, want := range map[string]string{
		"call ledger/GetBalance --server " + at + "ledger":                            "no answer yet: waiting for spiffe://mesh.local/service/ledger; --timeout ends it after 1m0s",
		"call ledger/Transfer --sign --server " + at + "ledger --keys " + at + "keys": "no answer yet: waiting for the key server",
	} {
		t.Run(line, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			said, ended := make(heard, 100), make(chan error, 1)
			a := &app{out: cli.Plain(io.Discard), questions: said}
			go func() {
				ended <- a.run(ctx, append(append(strings.Fields(line), "--timeout", "1m"), operatorFiles(t, "eve")...))
			}()
			for patience := time.After(30 * time.Second); ; {
				select {
				case got := <-said:
					if !strings.Contains(got, want) {
						continue // the request_id
					}
				case err := <-ended:
					t.Fatalf("it ended before: %v", err)
				case <-patience:
					t.Fatalf("nobody said %q", want)
				}
				break
			}
			cancel()
			if err := <-ended; err == nil {
				t.Error("it succeeded")
			}
		})
	}
}

func TestAPaymentWithoutAReceiptIsTold(t *testing.T) {
	t.Parallel()
	said := make(heard, 100)
	r := &callRun{app: &app{out: cli.Plain(io.Discard), questions: said}}
	response := dynamicpb.NewMessage((&ordersv1.PlaceOrderResponse{}).ProtoReflect().Descriptor())
	if err := r.verifyReceipts(t.Context(), call.Signed{"payment": {}}, response); err != nil {
		t.Fatal(err)
	}
	if got := <-said; !strings.Contains(got, "payment: no answer with a receipt came") || !strings.Contains(got, "sign again") {
		t.Errorf("got %q", got)
	}
}
