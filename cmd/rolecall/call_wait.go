package main

import (
	"sync"
	"time"

	"example.com/rolecall/internal/call"
)

// longWait is after how long without an answer somebody at a terminal wants to know why.
const longWait = 2 * time.Second

// waiting says why an answer takes long, if it does. The function that it returns ends that; it may be called twice.
func (r *callRun) waiting(why func() string) (stop func()) {
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		timer := time.NewTimer(longWait)
		defer timer.Stop()
		select {
		case <-timer.C:
			r.say("no answer yet: %s; --timeout ends it after %s", why(), r.flags.timeout)
		case <-done:
		}
	}()
	return sync.OnceFunc(func() {
		close(done)
		<-ended
	})
}

// attempts say what became of those that a call has made so far.
func (r *callRun) attempts(trace *call.Trace) string {
	if err := trace.Failed(); err != nil {
		return call.Again(err)
	}
	return "waiting for " + r.who.server.ID.String()
}
