package usertoken

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"example.com/rolecall/interceptors/internal/feature"
	"example.com/rolecall/interceptors/internal/jws"
)

// maxWaiting bounds how many calls wait for keys at a time.
const maxWaiting = 256

// keySource has the keys of one issuer.
type keySource interface {
	// lookup finds a key that may be used now.
	lookup(id string) (jws.Key, bool)
	// fetch reads the keys anew.
	fetch(context.Context) error
}

// keyring finds the keys of an issuer. A token that names an unknown one makes it fetch newer keys, one fetch at a time
// and one within the least interval: whoever sends tokens with invented names causes no more than that.
type keyring struct {
	keySource
	ctx      context.Context // of the verifier
	interval time.Duration
	timeout  time.Duration
	waiting  atomic.Int64

	mu      sync.Mutex
	running *fetching
	last    *fetching
}

// fetching is one fetch.
type fetching struct {
	done  chan struct{} // closed when err and ended are set
	err   error
	ended time.Time
}

// find returns the key, or Invalid if the issuer has none of that name, or Unavailable if nobody can tell.
func (r *keyring) find(id string) (key jws.Key, verdict feature.Verdict, detail string) {
	if key, ok := r.lookup(id); ok {
		return key, feature.Good, ""
	}
	err := r.refetch()
	if key, ok := r.lookup(id); ok {
		return key, feature.Good, ""
	}
	if err != nil {
		return jws.Key{}, feature.Unavailable, "the key that the token names is not known here, and no newer keys are to be had: " + err.Error()
	}
	return jws.Key{}, feature.Invalid, "the issuer has no key of the name in the token"
}

// refetch fetches the keys, or waits for who does, or returns what came of it a moment ago.
func (r *keyring) refetch() error {
	r.mu.Lock()
	f := r.running
	switch {
	case f != nil:
		r.mu.Unlock()
		return r.wait(f)
	case r.last != nil && time.Since(r.last.ended) < r.interval: // the monotonic clock: a clock set back stops nothing
		defer r.mu.Unlock()
		return r.last.err
	}
	f = &fetching{done: make(chan struct{}), err: errors.New("the fetch ended in a panic")}
	r.running = f
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		f.ended = time.Now()
		r.running, r.last = nil, f
		close(f.done)
	}()
	ctx, cancel := context.WithTimeout(r.ctx, r.timeout)
	defer cancel()
	f.err = r.fetch(ctx)
	return f.err
}

func (r *keyring) wait(f *fetching) error {
	defer r.waiting.Add(-1)
	if r.waiting.Add(1) > maxWaiting {
		return errors.New("too many calls wait for keys")
	}
	<-f.done // within the timeout
	return f.err
}
