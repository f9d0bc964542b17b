package proof_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/dynamicpb"

	"example.com/rolecall/interceptors"
	"example.com/rolecall/interceptors/internal/feature"
	"example.com/rolecall/interceptors/proof"
)

func TestWhatIsTriedAgain(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	w := m.workload(payer)
	var tried atomic.Int64
	for _, c := range []struct {
		name   string
		method string
		code   codes.Code
		fails  int64 // so often before it succeeds
		want   int64 // attempts
	}{
		{"unavailable, idempotent", quote, codes.Unavailable, 2, 3},
		{"aborted, idempotent", quote, codes.Aborted, 3, 4},
		{"four times", quote, codes.Unavailable, 99, 4},
		{"another error, idempotent", quote, codes.ResourceExhausted, 99, 1},
		{"unavailable, and it may have taken effect", pay, codes.Unavailable, 99, 1},
		{"aborted, and it may have taken effect", pay, codes.Aborted, 99, 1},
	} {
		tried.Store(0)
		m.bank.handling(func(context.Context, *dynamicpb.Message) error {
			if tried.Add(1) <= c.fails {
				return status.Error(c.code, "not now")
			}
			return nil
		})
		_, err := w.pay(timeout(t), c.method)
		if tried.Load() != c.want || (err == nil) != (c.want == c.fails+1) {
			t.Errorf("%s: %d attempts, %v, want %d", c.name, tried.Load(), err, c.want)
		}
	}
	// What the handler has heard from another, and passes on.
	for _, reason := range []string{"PROOF_EXPIRED", "PROOF_SIGNER_UNKNOWN"} {
		tried.Store(0)
		m.bank.handling(func(context.Context, *dynamicpb.Message) error {
			tried.Add(1)
			return feature.Refusal{Code: codes.Unauthenticated, Reason: reason}.Err(map[string]string{"method": gift})
		})
		if _, err := w.pay(timeout(t), pay); tried.Load() != 1 || infoOf(err).GetReason() != reason {
			t.Errorf("%s, passed on: %d attempts, %v, want one", reason, tried.Load(), err)
		}
	}
	// Not beyond the deadline, and not once the caller has gone.
	m.bank.handling(func(context.Context, *dynamicpb.Message) error { return status.Error(codes.Unavailable, "not now") })
	ctx, cancel := context.WithTimeout(t.Context(), 0)
	cancel()
	if _, err := w.pay(ctx, quote); err == nil {
		t.Error("no error after the deadline")
	}
}

// A server that has just started refuses proofs of before; its clients come back.
func TestAProofThatCameTooEarlyIsMadeAgain(t *testing.T) {
	t.Parallel()
	m := newMesh(t, func(c *meshConfig) {
		c.cold = true
		c.before = func(m *mesh) { m.clock.forward(10 * time.Minute) } // so that it takes long until it has been up for long
	})
	m.clock.forward(-10 * time.Minute)
	attempts := counting{attempts: &atomic.Int64{}}
	var last atomic.Int64 // attempt that does not come too early
	attempts.begin = func(n int64) {
		if n == last.Load() {
			m.clock.forward(20 * time.Minute)
		}
	}
	call := func(f *proof.Feature) error {
		guard := m.newGuard(m.ca.Source(payer), nil, quiet(), interceptors.With(&clocked{f, m.clock.now}))
		conn, err := guard.NewClient(m.addr, m.ca.ID(bankPath), grpc.WithStatsHandler(attempts))
		must(t, err)
		t.Cleanup(func() { _ = conn.Close() })
		return conn.Invoke(timeout(t), pay, payment(t, "dave", 1), paid(t))
	}
	err := call(proof.NewFast(proof.Config{}))
	refused(t, err, codes.Unauthenticated, "PROOF_EXPIRED")
	n := attempts.attempts.Load()
	if n < 2 {
		t.Errorf("%d attempts, want more", n)
	}
	last.Store(n + 3) // which is signed after it has begun
	if err := call(proof.NewPatient(proof.Config{})); err != nil || attempts.attempts.Load() != n+3 {
		t.Errorf("when it has been up for long at a later attempt: %v after %d attempts", err, attempts.attempts.Load()-n)
	}
}
