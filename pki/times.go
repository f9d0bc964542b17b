package pki

import (
	"context"
	"crypto/x509"
	"math/rand/v2"
	"time"
)

// Lives of certificates. A leaf may live a sixth of its issuer's life at most, so that a leaf signed when an issuer hands
// over (at 5/6 of its life) still ends before it.
const (
	DefaultRootLife   = 10 * 365 * 24 * time.Hour
	DefaultIssuerLife = 7 * 24 * time.Hour
	DefaultLeafLife   = 24 * time.Hour
	MinLeafLife       = 15 * time.Second
	leavesPerIssuer   = 6
	maxBackdate       = 30 * time.Second
)

// backdate is how long before its issue a certificate of this life starts to be valid: the lesser of 30 s and a tenth of
// its life, for verifiers whose clock is behind.
func backdate(life time.Duration) time.Duration {
	return min(maxBackdate, life/10)
}

// validity returns when a certificate issued at now for life starts and ends. X.509 counts whole seconds: the start is
// rounded down and the end up, so that a certificate never lives shorter than was asked.
func validity(now time.Time, life time.Duration) (notBefore, notAfter time.Time) {
	now = now.UTC()
	notBefore = now.Add(-backdate(life)).Truncate(time.Second)
	end := now.Add(life)
	notAfter = end.Truncate(time.Second)
	if notAfter.Before(end) {
		notAfter = notAfter.Add(time.Second)
	}
	return notBefore, notAfter
}

// IssuedAt returns when a certificate of this package was issued, to a second or two: its start without the backdating.
func IssuedAt(cert *x509.Certificate) time.Time { return issuedAt(cert.NotBefore, cert.NotAfter) }

func issuedAt(notBefore, notAfter time.Time) time.Time {
	span := notAfter.Sub(notBefore)
	if span > 11*maxBackdate {
		return notBefore.Add(maxBackdate)
	}
	return notBefore.Add(span / 11)
}

// RenewAt returns when a certificate that was issued at issued and ends at notAfter is to be replaced: at a random point
// of 45 to 55 % of its life, so that a fleet that started together does not renew together. Compare it with the wall
// clock: timers stand still while a machine sleeps.
func RenewAt(issued, notAfter time.Time) time.Time {
	life := notAfter.Sub(issued)
	return issued.Add(time.Duration((0.45 + 0.1*rand.Float64()) * float64(life)))
}

// renewal is when a certificate is to be replaced.
type renewal struct {
	got, start time.Time
	at         time.Time
}

// newRenewal plans the replacement of a certificate that came at got by the clock at hand.
func newRenewal(cert *x509.Certificate, got time.Time) renewal {
	return renewal{got: got, start: cert.NotBefore, at: RenewAt(got, cert.NotAfter)}
}

// due tells at now whether the certificate is to be replaced: the moment has come, or the clock was set back since it came
// and now stands before its start, so that everybody refuses it. One that came from a signer whose clock is ahead does not
// count as the latter: another one would be the same, and asking for it again and again would be a storm.
func (r renewal) due(now time.Time) bool {
	const tolerance = time.Second // certificates count whole seconds
	return !now.Before(r.at) || now.Before(r.start) && now.Before(r.got.Add(-tolerance))
}

// longestNap is how long WaitUntil trusts a timer.
const longestNap = 10 * time.Second

// WaitUntil waits for a moment of the wall clock, or the end of ctx. It looks at the clock every few seconds: a timer
// stands still while a machine sleeps, and does not know that the clock was set.
func WaitUntil(ctx context.Context, moment time.Time) {
	moment = moment.Round(0)
	for {
		left := moment.Sub(time.Now().Round(0))
		if left <= 0 {
			return
		}
		timer := time.NewTimer(min(left, longestNap))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
	}
}

// clock returns now, or the wall clock if it is nil. Times are stripped of their monotonic reading: certificates are
// about the time of day.
func clock(now func() time.Time) func() time.Time {
	if now == nil {
		now = time.Now
	}
	return func() time.Time { return now().Round(0) }
}
