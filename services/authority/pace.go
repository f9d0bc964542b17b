package authority

import (
	"sync"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"google.golang.org/grpc/codes"

	"example.com/rolecall/internal/refusal"
)

// Bounds of how often one identity renews itself: so many at once, and then one a second. Whoever runs in a mesh does so a
// few times a day. Each renewal is a line of the record, which holds some two million a day for all: without a bound one
// workload fills it within the hour, and nobody gets a certificate before midnight UTC.
const (
	renewalsAtOnce = 1000
	renewalEvery   = time.Second
	maxPaced       = 100_000 // identities that are remembered
)

// renewals paces those who renew themselves. The zero value is ready. Safe for concurrent use.
type renewals struct {
	mu sync.Mutex
	// paid is when what an identity had is paid off, at one renewal in renewalEvery.
	paid map[spiffeid.ID]time.Time
}

// take tells whether an identity may have one more renewal now. Where more identities renew themselves at the same moment
// than are remembered, those that are not pass: that is no single workload's doing.
func (r *renewals) take(id spiffeid.ID, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	paid := r.paid[id]
	if paid.Before(now) {
		paid = now
	}
	paid = paid.Add(renewalEvery)
	if paid.Sub(now) > renewalsAtOnce*renewalEvery {
		return false
	}
	r.remember(id, paid, now)
	return true
}

func (r *renewals) remember(id spiffeid.ID, paid, now time.Time) {
	if _, known := r.paid[id]; !known && len(r.paid) >= maxPaced {
		for other, until := range r.paid {
			if !now.Before(until) {
				delete(r.paid, other)
			}
		}
		if len(r.paid) >= maxPaced {
			return
		}
	}
	if r.paid == nil {
		r.paid = map[spiffeid.ID]time.Time{}
	}
	r.paid[id] = paid
}

// tooOften refuses as the guard does with callers over a limit: RATE_LIMITED, and when to come again.
func tooOften() error {
	return refusal.New(codes.ResourceExhausted, refusal.RateLimited,
		"the calling workload renews itself too often; a certificate is renewed at half of its life", renewalEvery)
}
