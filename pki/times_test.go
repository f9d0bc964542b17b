package pki

import (
	"crypto/x509"
	"testing"
	"time"
)

func TestARenewalFollowsTheWallClock(t *testing.T) {
	t.Parallel()
	got := time.Date(2031, 5, 3, 10, 0, 0, 0, time.UTC)
	from := func(start time.Time) *x509.Certificate {
		return &x509.Certificate{NotBefore: start, NotAfter: start.Add(24*time.Hour + maxBackdate)}
	}
	plain, ahead := from(got.Add(-maxBackdate)), from(got.Add(5*time.Minute))
	for _, c := range []struct {
		attack string
		cert   *x509.Certificate
		after  time.Duration
		want   bool
	}{
		{"just come", plain, 0, false},
		{"before 45 % of its life", plain, 10 * time.Hour, false},
		{"after 55 % of its life", plain, 14 * time.Hour, true},
		{"wall clock +2 days", plain, 48 * time.Hour, true},
		{"a sleep of a month", plain, 30 * 24 * time.Hour, true},
		{"wall clock -1 h: it is not valid yet", plain, -time.Hour, true},
		{"wall clock -20 s: it is valid still", plain, -20 * time.Second, false},
		{"the signer's clock is ahead: another one would be the same", ahead, 0, false},
		{"the signer's clock is ahead, and ours was set back", ahead, -time.Hour, true},
	} {
		if due := newRenewal(c.cert, got).due(got.Add(c.after)); due != c.want {
			t.Errorf("%s: due %v, want %v", c.attack, due, c.want)
		}
	}
	if !(renewal{}).due(got) {
		t.Error("the zero value is not due")
	}
}
