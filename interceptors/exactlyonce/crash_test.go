package exactlyonce_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	ledgerv1 "example.com/rolecall/gen/ledger/v1"
	"example.com/rolecall/interceptors/exactlyonce"
	"example.com/rolecall/interceptors/internal/feature"
)

// The test binary starts itself as a process that can be killed: with the database, the form and the request_id.
const (
	childEnv = "ROLECALL_TEST_EXACTLYONCE_DATABASE"
	formEnv  = "ROLECALL_TEST_EXACTLYONCE_FORM"
	idEnv    = "ROLECALL_TEST_EXACTLYONCE_REQUEST_ID"
)

// shortLease is so short that a test can wait for it, and that a machine that is slow lets it end while its holder is at work.
const shortLease = 300 * time.Millisecond

// child runs one request up to the middle, says so, and waits there for its end.
func child(url string) {
	r := exactlyonce.New(exactlyonce.Config{DB: adopt(url, openDB(url)), Lease: shortLease})
	saga := os.Getenv(formEnv) == "saga"
	if saga {
		exactlyonce.OnResume(r, transfer, func(context.Context, *ledgerv1.TransferRequest) (*ledgerv1.TransferResponse, error) { return nil, nil })
	}
	running, err := r.Start(feature.Env{})
	if err == nil {
		err = running.(feature.Serving).Serve([]feature.Method{{Full: transfer, ExactlyOnce: true}})
	}
	if err != nil {
		panic(err)
	}
	r.Do(context.Background(), call(os.Getenv(idEnv), proven), func(ctx context.Context) (proto.Message, error) { //nolint:errcheck // it never returns
		var err error
		if saga {
			err = exactlyonce.SagaFrom(ctx).Begin(ctx, effect)
		} else {
			err = effect(ctx)
		}
		fmt.Println("in the middle", err)
		select {}
	})
}

// effect is a handler's write.
func effect(ctx context.Context) error {
	_, err := bump(ctx)
	return err
}

// killInTheMiddle starts a child, waits until it is in the middle of the request, and kills it.
func killInTheMiddle(t *testing.T, k *kit, form, id string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), childEnv+"="+k.url, formEnv+"="+form, idEnv+"="+id)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if killErr := cmd.Process.Kill(); killErr != nil {
		t.Fatal(killErr)
	}
	_ = cmd.Wait() // it was killed
	if err != nil || strings.TrimSpace(line) != "in the middle <nil>" {
		t.Fatalf("the child said %q, %v", line, err)
	}
}

func TestCrashBetweenEffectAndStore(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, k *kit) {
		k.start(t, nil) // the tables
		id := newID()
		killInTheMiddle(t, k, "local", id)
		k.check(t, 0, 0, 0)
		r := k.start(t, nil)
		// PostgreSQL sees the end of the connection a moment later, and holds the claim until then.
		ok(t, retried(t, r, func() *feature.OnceCall { return call(id, proven) }, bump))
		k.check(t, 1, 1, 1)
	})
}

func TestCrashInTheMiddleOfASaga(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, k *kit) {
		k.start(t, nil)
		id := newID()
		killInTheMiddle(t, k, "saga", id)
		k.check(t, 1, 1, 1) // what Begin wrote stays
		resumed := make(chan exactlyonce.Key, 8)
		r := k.start(t, nil, resume(func(ctx context.Context, req *ledgerv1.TransferRequest) (*ledgerv1.TransferResponse, error) {
			saga := exactlyonce.SagaFrom(ctx)
			resumed <- saga.Key()
			if saga.Attempt() != 2 || req.GetAmount().GetMinorUnits() != 1 || time.Since(saga.Created()) > time.Minute {
				t.Errorf("attempt %d, created %v, of %v", saga.Attempt(), saga.Created(), req)
			}
			response := &ledgerv1.TransferResponse{Transfer: &ledgerv1.TransferRecord{TransferId: saga.Child("pay")}}
			return response, saga.Finish(ctx, response, effect)
		}))
		c := call(id, proven)
		if got, want := <-resumed, keyOf(c); got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
		answer := ok(t, retried(t, r, func() *feature.OnceCall { return call(id, proven) }, bump))
		if k.effects(t) != 2 || !strings.Contains(answer.Response, "-") {
			t.Errorf("%d effects, %q", k.effects(t), answer.Response)
		}
	})
}
