package demo

import (
	"context"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"example.com/rolecall/internal/cli"
)

func TestTheTourStaysAtAnAttemptOnlyWhereSomebodyReads(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		pace time.Duration
	}{{"at a terminal", pace}, {"elsewhere", 0}} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				tour := &tour{out: cli.Plain(io.Discard), pace: test.pace}
				began := time.Now()
				fits, err := tour.play(t.Context(), attempt{try: func(context.Context) outcome { return ok }, want: ok})
				if took := time.Since(began); !fits || err != nil || took != test.pace {
					t.Errorf("an attempt took %s (%v, %v), want %s", took, fits, err, test.pace)
				}
			})
		})
	}
}

func TestTheTourDoesNotStayWhenItIsInterrupted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, interrupt := context.WithCancel(t.Context())
		tour := &tour{out: cli.Plain(io.Discard), pace: time.Hour}
		time.AfterFunc(time.Minute, interrupt)
		began := time.Now()
		a := attempt{try: func(context.Context) outcome { return ok }, want: ok}
		_, first := tour.play(ctx, a)
		_, second := tour.play(ctx, a)
		if took := time.Since(began); first != nil || second == nil || took != time.Minute {
			t.Errorf("after %s: %v, then %v; want an interruption after a minute", took, first, second)
		}
	})
}
