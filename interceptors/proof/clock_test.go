package proof_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"example.com/rolecall/interceptors/internal/feature"
	"example.com/rolecall/interceptors/proof"
)

// clocked is a feature with another clock.
type clocked struct {
	*proof.Feature
	now func() time.Time
}

func (c *clocked) Start(env feature.Env) (feature.Running, error) {
	env.Now = c.now
	return c.Feature.Start(env)
}

// clock is a wall clock that a test sets forward, or back.
type clock struct{ ahead atomic.Int64 }

func (c *clock) now() time.Time { return time.Now().Add(time.Duration(c.ahead.Load())) }

func (c *clock) forward(d time.Duration) { c.ahead.Add(int64(d)) }

// wait is how long a call or a condition may take. On a machine that does what it can they take milliseconds.
const wait = 30 * time.Second

func timeout(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), wait)
	t.Cleanup(cancel)
	return ctx
}

// eventually waits until a condition holds.
func eventually(t testing.TB, what string, condition func() bool, explain ...func() any) {
	t.Helper()
	start := time.Now()
	for tick := time.NewTicker(5 * time.Millisecond); ; <-tick.C {
		if condition() {
			return
		}
		if time.Since(start) > wait {
			for _, e := range explain {
				t.Log(e())
			}
			t.Fatalf("no %s within %s", what, wait)
		}
	}
}
