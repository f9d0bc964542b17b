package supervisor

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestAttachEndsTheContextAndThenTheProcessWhenTheSupervisorIsGone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		in, supervisor := io.Pipe()
		exited := make(chan time.Time, 1)
		go io.WriteString(supervisor, gateOpen)
		ctx, err := attach(t.Context(), in, func() { exited <- time.Now() })
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if ctx.Err() != nil {
			t.Fatalf("context ended while the supervisor lives: %v", context.Cause(ctx))
		}
		gone := time.Now()
		supervisor.Close()
		<-ctx.Done()
		if !errors.Is(context.Cause(ctx), ErrOrphaned) {
			t.Errorf("cause %v, want %v", context.Cause(ctx), ErrOrphaned)
		}
		if got := (<-exited).Sub(gone); got != orphanGrace {
			t.Errorf("exit after %s, want %s", got, orphanGrace)
		}
	})
}

func TestAttachRefusesAnythingButItsSupervisorsWord(t *testing.T) {
	t.Parallel()
	for name, in := range map[string]string{
		"supervisor gone before the gate opened": "",
		"another word":                           "stop\n",
		"a line without end":                     strings.Repeat("g", 1000),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := attach(t.Context(), strings.NewReader(in), func() {}); err == nil {
				t.Errorf("attach with %q on standard input: no error", in)
			}
		})
	}
}

func TestPausesGrowToABoundAndStartAgainAfterSteadyWork(t *testing.T) {
	t.Parallel()
	var b backoff
	var last time.Duration
	for range 50 {
		last = b.next(time.Second)
		if last < firstPause*9/10 || last > lastPause*11/10 {
			t.Fatalf("pause %s is outside %s and %s by more than a tenth", last, firstPause, lastPause)
		}
	}
	if last < lastPause*9/10 {
		t.Errorf("pause after 50 crashes %s, want about %s", last, lastPause)
	}
	if got := b.next(steady); got > firstPause*11/10 {
		t.Errorf("pause after steady work %s, want about %s", got, firstPause)
	}
}
