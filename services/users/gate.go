package users

import (
	"context"
	"errors"
	"time"
)

// errBusy says that too many wait for a password hash already, or that this one has waited for too long.
var errBusy = errors.New("too many passwords to hash at once")

// gate lets a few hash runs through at a time, each of which takes tens of megabytes, and lets a few more wait. So a flood
// of logins takes no more memory than a handful. Safe for concurrent use.
type gate struct {
	places chan struct{} // of those that run or wait
	runs   chan struct{} // of those that run
	wait   time.Duration
	count  func() // of runs
}

func newGate(runs, waiting int, wait time.Duration, count func()) *gate {
	return &gate{places: make(chan struct{}, runs+waiting), runs: make(chan struct{}, runs), wait: wait, count: count}
}

// pass runs f when it has its turn, and counts it. errBusy, or the end of ctx, if it does not get one.
func (g *gate) pass(ctx context.Context, f func()) error {
	select {
	case g.places <- struct{}{}:
	default:
		return errBusy
	}
	defer func() { <-g.places }()
	patience := time.NewTimer(g.wait)
	defer patience.Stop()
	select {
	case g.runs <- struct{}{}:
	case <-patience.C:
		return errBusy
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-g.runs }()
	if err := ctx.Err(); err != nil {
		return err // select may have chosen the run although the caller has left
	}
	g.count()
	f()
	return nil
}
