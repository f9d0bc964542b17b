package agent

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// setClock is a wall clock that can be set.
type setClock struct{ ahead atomic.Int64 }

func (c *setClock) now() time.Time          { return time.Now().Add(time.Duration(c.ahead.Load())).Round(0) }
func (c *setClock) set(ahead time.Duration) { c.ahead.Store(int64(ahead)) }

// renewals renews again and again as an identity does, for a day's life, and counts.
func renewals(ctx context.Context, r *Renewal, now func() time.Time, authority func() time.Time, chain func(notBefore time.Time) []*x509.Certificate) *atomic.Int64 {
	var n atomic.Int64
	go func() {
		for ctx.Err() == nil {
			n.Add(1)
			r.Wait(ctx, chain(authority()), now())
		}
	}()
	return &n
}

func dayLong(notBefore time.Time) []*x509.Certificate {
	return []*x509.Certificate{
		{NotBefore: notBefore.Add(-30 * time.Second), NotAfter: notBefore.Add(24 * time.Hour)},
		{RawSubjectPublicKeyInfo: []byte("issuer")},
	}
}

func TestACertificateIsRenewedAtHalfOfItsLife(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		r := NewRenewal(nil)
		n := renewals(ctx, r, time.Now, time.Now, dayLong)
		time.Sleep(10 * time.Hour)
		if got := n.Load(); got != 1 {
			t.Errorf("after 10 h %d certificates, want 1", got)
		}
		time.Sleep(4 * time.Hour)
		if got := n.Load(); got != 2 {
			t.Errorf("after 14 h %d certificates, want 2", got)
		}
	})
}

func TestAttackTheWallClockIsSetBackAnHour(t *testing.T) {
	t.Parallel()
	for name, authorityFollows := range map[string]bool{
		"the authority's clock too": true, "the clock of this machine alone": false,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				var clock setClock
				authority := clock.now
				if !authorityFollows {
					authority = time.Now
				}
				n := renewals(ctx, NewRenewal(clock.now), clock.now, authority, dayLong)
				time.Sleep(time.Minute)
				clock.set(-time.Hour)
				time.Sleep(30 * time.Second)
				if got := n.Load(); got != 2 {
					t.Errorf("half a minute later there were %d certificates, want 2: one replaced, once", got)
				}
				time.Sleep(10 * time.Hour)
				if got := n.Load(); got != 2 {
					t.Errorf("ten hours later there were %d certificates, want still 2", got)
				}
			})
		})
	}
}

func TestAttackTheWallClockIsSetTwoDaysAhead(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var clock setClock
		n := renewals(ctx, NewRenewal(clock.now), clock.now, clock.now, dayLong)
		time.Sleep(time.Minute)
		clock.set(48 * time.Hour)
		time.Sleep(30 * time.Second)
		if got := n.Load(); got != 2 {
			t.Errorf("half a minute later there were %d certificates, want 2", got)
		}
		clock.set(0)
		time.Sleep(30 * time.Second)
		if got := n.Load(); got != 3 {
			t.Errorf("after the clock was right again there were %d certificates, want 3", got)
		}
		time.Sleep(10 * time.Hour)
		if got := n.Load(); got != 3 {
			t.Errorf("ten hours later there were %d certificates, want still 3", got)
		}
	})
}

func TestCertificatesUnderARevokedIssuerAreReplacedAtOnceButNotAllAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		issued := time.Now()
		ended := make(chan time.Time, 100)
		var all []*Renewal
		for range 100 {
			r := NewRenewal(nil)
			all = append(all, r)
			go func() {
				r.Wait(ctx, dayLong(issued), issued)
				ended <- time.Now()
			}()
		}
		time.Sleep(time.Hour)
		revoked := time.Now()
		for _, r := range all {
			r.SetRevoked(map[[32]byte]struct{}{sha256.Sum256([]byte("another")): {}})
		}
		time.Sleep(time.Minute)
		if len(ended) != 0 {
			t.Fatalf("%d were replaced because of an issuer that is not theirs", len(ended))
		}
		for _, r := range all {
			r.SetRevoked(map[[32]byte]struct{}{sha256.Sum256([]byte("issuer")): {}})
		}
		revoked = revoked.Add(time.Minute)
		moments := map[time.Time]int{}
		for range all {
			moment := <-ended
			moments[moment]++
			if after := moment.Sub(revoked); after > longestHurry {
				t.Errorf("one was replaced %s after its issuer was revoked, want %s at most", after, longestHurry)
			}
		}
		if len(moments) < 50 {
			t.Errorf("100 were replaced at %d moments: that is a storm", len(moments))
		}
	})
}

func TestACertificateThatEndsAtOnceIsNoReasonToHurry(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		over := func(now time.Time) []*x509.Certificate {
			return []*x509.Certificate{{NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Millisecond)}}
		}
		n := renewals(ctx, NewRenewal(nil), time.Now, time.Now, over)
		time.Sleep(time.Minute)
		if got := n.Load(); got > 121 {
			t.Errorf("%d certificates in a minute, want one every %s at most", got, shortestPause)
		}
	})
}
