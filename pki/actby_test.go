package pki

import (
	"crypto/x509"
	"strings"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
)

// overview is what Issuers has, without files.
func (s *sim) overview() *Issuers {
	issuers := &Issuers{dir: "/ca", now: func() time.Time { return s.now }}
	for _, i := range s.issuers {
		i.root = s.root.cert
	}
	issuers.state.Store(&issuersState{issuers: s.issuers, bundle: x509bundle.FromX509Authorities(testDomain, []*x509.Certificate{s.root.cert})})
	return issuers
}

func TestWhenSomebodyHasToActAndWhatIsToBeDone(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	for _, c := range []struct {
		name           string
		rootLife, life time.Duration
		rotateAt       []time.Duration // when the root signs
		at             time.Duration
		act            time.Duration // 0: at once
		warning        time.Duration // before that
		command        string
	}{
		{"no issuer yet", DefaultRootLife, 7 * day, nil, time.Hour, 0, 0, "rolecall pki issuer csr --ca /ca"},
		{"one issuer: at 5/6 of its life", DefaultRootLife, 6 * day, []time.Duration{0}, time.Hour, 5 * day, 36 * time.Hour, "rolecall pki issuer import --ca /ca"},
		{"a long one: 48 h before", DefaultRootLife, 60 * day, []time.Duration{0}, time.Hour, 50 * day, 48 * time.Hour, "pki issuer csr"},
		{"the next one is there", DefaultRootLife, 6 * day, []time.Duration{0, 3*day + time.Hour}, 4 * day, 8*day + time.Hour, 36 * time.Hour, "pki issuer csr"},
		{"too late: certificates get shorter", DefaultRootLife, 6 * day, []time.Duration{0}, 5*day + time.Hour, 5 * day, 36 * time.Hour, "pki issuer csr"},
		{"everything expired for a month", DefaultRootLife, 6 * day, []time.Duration{0}, 36 * day, 0, 0, "pki issuer csr"},
		{"a root that ends soon", 100 * day, 7 * day, []time.Duration{0, 6 * day}, 7 * day, 11*day + 20*time.Hour, 42 * time.Hour, "pki issuer csr"},
		{"a root that ends first", 40 * day, 40 * day, []time.Duration{0}, day, 33*day + 8*time.Hour, 48 * time.Hour, "pki issuer csr"},
		{"the end of a root", 20 * day, 19 * day, []time.Duration{0, 10 * day}, 11 * day, 18 * day, 48 * time.Hour, "rolecall pki root rotate prepare --ca /ca"},
		{"an expired root", 20 * day, 19 * day, []time.Duration{0}, 21 * day, 0, 0, "rolecall pki init"},
		{"wall clock before the root", DefaultRootLife, 6 * day, []time.Duration{0}, -time.Hour, 0, 0, "set the clock"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newSim(t, c.rootLife, c.life)
			born := s.now
			for _, at := range c.rotateAt {
				s.now = born.Add(at)
				if !s.rotate() {
					t.Fatalf("no issuer was made after %s", at)
				}
			}
			s.now = born.Add(c.at)
			by := s.overview().ActBy()
			want := born.Add(c.act)
			if c.act == 0 {
				want = s.now
			}
			if by.When.Sub(want).Abs() > time.Minute || (by.When.Sub(by.Warn)-c.warning).Abs() > time.Minute || !strings.Contains(by.Command, c.command) || by.Reason == "" {
				t.Errorf("act by %s (%s after birth), warn %s before it, %q, %q; want %s, %s before, a command with %q",
					by.When, by.When.Sub(born), by.When.Sub(by.Warn), by.Reason, by.Command, want, c.warning, c.command)
			}
		})
	}
}
