package usertoken

import (
	"time"

	"example.com/rolecall/interceptors"
	"example.com/rolecall/interceptors/internal/feature"
)

// NewFast is New with everything in a hurry but the fetches of keys: no test waits until one takes too long. Nor does it wait for the
// end of a stream that is silent, unless it says for how long.
func NewFast(cfg Config, silence time.Duration) interceptors.Feature {
	p := production
	if p.silence = silence; silence == 0 {
		p.silence = time.Minute
	}
	p.tick, p.redial, p.most = 20*time.Millisecond, 10*time.Millisecond, 100*time.Millisecond
	p.reload, p.file, p.fetch = 50*time.Millisecond, 50*time.Millisecond, 20*time.Second
	return &users{config: cfg, pace: p}
}

// Cached returns how many tokens a feature at work remembers.
func Cached(running feature.Running) int { return running.(*verifier).cache.len() }

// Revocations returns how many revocations a feature at work remembers.
func Revocations(running feature.Running) int { return running.(*verifier).revoked.len() }

// Following tells whether a snapshot of revocations is in, and how old the view is.
func Following(running feature.Running) (complete bool, age time.Duration) {
	f := running.(*verifier).follower
	return f.complete.Load(), f.age()
}

// Forget drops the revocations that may be forgotten at a time.
func Forget(running feature.Running, now time.Time) { running.(*verifier).revoked.forget(now) }
