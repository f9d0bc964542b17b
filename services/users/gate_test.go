package users

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestNoMoreHashesRunAtOnceThanTheGateLetsThrough(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var counted, running, busy atomic.Int64
		var mu sync.Mutex
		most := int64(0)
		g := newGate(2, 5, time.Hour, func() { counted.Add(1) })
		for range 100 {
			go func() {
				err := g.pass(t.Context(), func() {
					now := running.Add(1)
					mu.Lock()
					most = max(most, now)
					mu.Unlock()
					time.Sleep(time.Second) // of the bubble's clock
					running.Add(-1)
				})
				if errors.Is(err, errBusy) {
					busy.Add(1)
				} else if err != nil {
					t.Errorf("pass: %v", err)
				}
			}()
		}
		synctest.Wait()
		if running.Load() != 2 || busy.Load() != 93 {
			t.Errorf("%d run and %d were refused, want 2 and 93", running.Load(), busy.Load())
		}
		time.Sleep(time.Minute)
		mu.Lock()
		defer mu.Unlock()
		if counted.Load() != 7 || most != 2 {
			t.Errorf("%d ran, %d at once; want 7, and 2 at once", counted.Load(), most)
		}
	})
}

func TestNobodyWaitsAtTheGateForLong(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGate(1, 2, 5*time.Second, func() {})
		done := make(chan struct{})
		go func() {
			_ = g.pass(t.Context(), func() { <-done })
		}()
		synctest.Wait()
		began := time.Now()
		if err := g.pass(t.Context(), func() { t.Error("ran") }); !errors.Is(err, errBusy) || time.Since(began) != 5*time.Second {
			t.Errorf("got %v after %s, want busy after 5 s", err, time.Since(began))
		}
		gone, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := g.pass(gone, func() { t.Error("ran") }); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a caller who left: got %v", err)
		}
		close(done)
	})
}
