package agent

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"math/rand/v2"
	"sync"
	"time"

	"example.com/rolecall/pki"
)

// Times of a renewal that does not wait for half of life.
const (
	longestNap    = 10 * time.Second       // between looks at the wall clock: a timer stands still while a machine sleeps
	longestHurry  = 5 * time.Second        // over which what is due at once is spread, or a twentieth of life
	shortestPause = 500 * time.Millisecond // between two certificates of one identity, whatever the clock says
)

// Renewal says when the certificate of one holder is to be replaced: at 45 to 55 % of its life by the wall clock, at once
// when an issuer above it was revoked, and at once, but only once, when the clock was set back to before it starts. "At
// once" is within 5 s, or a twentieth of life if that is less, at random: whatever befalls one certificate befalls many.
// Safe for concurrent use.
type Renewal struct {
	now  func() time.Time
	look chan struct{}

	mu      sync.Mutex
	revoked map[[32]byte]struct{} // never written once it is here
	ahead   bool                  // a certificate that starts in the future was replaced already
}

// NewRenewal goes by the given clock, the wall clock if it is nil.
func NewRenewal(now func() time.Time) *Renewal {
	if now == nil {
		now = time.Now
	}
	return &Renewal{now: func() time.Time { return now().Round(0) }, look: make(chan struct{}, 1)}
}

// SetRevoked names the issuers under which no certificate may stay, by the SHA-256 of their SubjectPublicKeyInfo. The map
// belongs to the Renewal from then on.
func (r *Renewal) SetRevoked(keys map[[32]byte]struct{}) {
	r.mu.Lock()
	r.revoked = keys
	r.mu.Unlock()
	select {
	case r.look <- struct{}{}:
	default:
	}
}

// Revoked tells whether an issuer in the chain (leaf first) was revoked.
func (r *Renewal) Revoked(chain []*x509.Certificate) bool {
	r.mu.Lock()
	keys := r.revoked
	r.mu.Unlock()
	if len(keys) == 0 {
		return false
	}
	for _, cert := range chain[min(1, len(chain)):] {
		if _, ok := keys[sha256.Sum256(cert.RawSubjectPublicKeyInfo)]; ok {
			return true
		}
	}
	return false
}

// Wait waits until a certificate that was issued at issued is to be replaced, or ctx ends. The chain is leaf first.
func (r *Renewal) Wait(ctx context.Context, chain []*x509.Certificate, issued time.Time) {
	leaf := chain[0]
	due := pki.RenewAt(issued, leaf.NotAfter)
	if soonest := issued.Add(shortestPause); due.Before(soonest) {
		due = soonest
	}
	due = due.Round(0)
	for ctx.Err() == nil {
		now := r.now()
		nap := min(due.Sub(now), longestNap)
		if nap <= 0 {
			return
		}
		hurry := r.hurry(chain, now)
		if hurry {
			nap = rand.N(max(1, min(longestHurry, leaf.NotAfter.Sub(leaf.NotBefore)/20)))
		}
		timer := time.NewTimer(nap)
		select {
		case <-ctx.Done():
		case <-timer.C:
			if hurry {
				return
			}
		case <-r.waked(hurry):
		}
		timer.Stop()
	}
}

// waked returns what ends a nap early; nothing does once the end of the certificate is near.
func (r *Renewal) waked(hurry bool) <-chan struct{} {
	if hurry {
		return nil
	}
	return r.look
}

// hurry tells whether the certificate is to be replaced before its time. That it starts in the future counts once: with a
// clock that stays wrong the next one does too.
func (r *Renewal) hurry(chain []*x509.Certificate, now time.Time) bool {
	if r.Revoked(chain) {
		return true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !now.Before(chain[0].NotBefore) {
		r.ahead = false
		return false
	}
	first := !r.ahead
	r.ahead = true
	return first
}
