package pki

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// sim is a certificate authority in memory under a clock that the test sets: no files, and no keys derived from
// passphrases, which takes long on purpose.
type sim struct {
	t       *testing.T
	now     time.Time
	root    *Root
	life    time.Duration
	issuers []*Issuer
}

func newSim(t *testing.T, rootLife, life time.Duration) *sim {
	t.Helper()
	s := &sim{t: t, now: time.Date(2031, 5, 3, 10, 0, 0, 250_000_000, time.UTC), life: life}
	root, err := newRoot(RootOptions{TrustDomain: testDomain, Life: rootLife, Now: func() time.Time { return s.now }})
	must(t, err)
	s.root = root
	return s
}

// rotate does what CA.Rotate does.
func (s *sim) rotate() (made bool) {
	s.t.Helper()
	if made = rotationDue(s.issuers, s.life, s.root.cert, s.now); made {
		issuer, err := s.root.newIssuer(len(s.issuers)+1, s.life)
		must(s.t, err)
		s.issuers = append(s.issuers, issuer)
	}
	return made
}

// line is the issuers as one line: "1 RETIRING, 2 ACTIVE".
func (s *sim) line() string {
	list, _ := states(s.issuers, s.now)
	return line(list)
}

func line(list []IssuerStatus) string {
	var parts []string
	for _, status := range list {
		parts = append(parts, fmt.Sprintf("%d %s", status.Generation, status.State))
	}
	return strings.Join(parts, ", ")
}

func TestIssuersFollowTheWallClock(t *testing.T) {
	t.Parallel()
	s := newSim(t, DefaultRootLife, time.Hour) // valid from 30 s before its birth: half is at 29m45s, 5/6 at 49m55s
	born := s.now
	for _, step := range []struct {
		after  time.Duration
		made   bool
		states string
	}{
		{0, true, "1 ACTIVE"},
		{time.Second, false, "1 ACTIVE"},
		{29*time.Minute + 40*time.Second, false, "1 ACTIVE"},
		{29*time.Minute + 50*time.Second, true, "1 ACTIVE, 2 PREPARED"},
		{49*time.Minute + 50*time.Second, false, "1 ACTIVE, 2 PREPARED"},
		{49*time.Minute + 56*time.Second, false, "1 RETIRING, 2 ACTIVE"},
		{-time.Hour, false, "1 PREPARED, 2 PREPARED"}, // the clock was set back: nothing is made, nothing is lost
		{59*time.Minute + 36*time.Second, true, "1 RETIRING, 2 ACTIVE, 3 PREPARED"},
		{60*time.Minute + 2*time.Second, false, "1 RETIRED, 2 ACTIVE, 3 PREPARED"},
		{30 * 24 * time.Hour, true, "1 RETIRED, 2 RETIRED, 3 RETIRED, 4 ACTIVE"}, // the machine was off for a month
		{30*24*time.Hour + time.Second, false, "1 RETIRED, 2 RETIRED, 3 RETIRED, 4 ACTIVE"},
	} {
		s.now = born.Add(step.after)
		if diff := cmp.Diff([]any{step.made, step.states}, []any{s.rotate(), s.line()}); diff != "" {
			t.Errorf("after %s: made, states (-want +got):\n%s", step.after, diff)
		}
	}
}

func TestARevokedIssuerIsReplacedByWhoeverCanSign(t *testing.T) {
	t.Parallel()
	s := newSim(t, DefaultRootLife, time.Hour)
	born := s.now
	s.rotate()
	s.now = born.Add(40 * time.Minute)
	s.rotate()
	for _, step := range []struct {
		after   time.Duration
		revoked []int
		made    bool
		states  string
		leaf    time.Duration // of a leaf of ten minutes
	}{
		{40 * time.Minute, nil, false, "1 ACTIVE, 2 PREPARED", 10 * time.Minute},
		{40 * time.Minute, []int{1}, false, "1 REVOKED, 2 ACTIVE", 10 * time.Minute},
		{55 * time.Minute, []int{2}, true, "1 RETIRING, 2 REVOKED, 3 ACTIVE", 10 * time.Minute},
		{55 * time.Minute, []int{2, 3}, true, "1 RETIRING, 2 REVOKED, 3 REVOKED, 4 ACTIVE", 10 * time.Minute},
		{56 * time.Minute, []int{2, 3, 4}, true, "1 RETIRING, 2 REVOKED, 3 REVOKED, 4 REVOKED, 5 ACTIVE", 10 * time.Minute},
	} {
		s.now = born.Add(step.after)
		for _, i := range s.issuers {
			i.revoked = slices.Contains(step.revoked, i.Generation)
		}
		made := s.rotate()
		leaf, err := leafTemplate(Leaf{PublicKey: s.root.key.Public(), ID: spiffeid.RequireFromPath(testDomain, "/x"), Life: 10 * time.Minute}, activeIssuer(s.issuers, s.now), s.now)
		must(t, err)
		if diff := cmp.Diff([]any{step.made, step.states, step.leaf}, []any{made, s.line(), leaf.NotAfter.Sub(s.now).Truncate(time.Second)}); diff != "" {
			t.Errorf("after %s, revoked %v: made, states, leaf life (-want +got):\n%s", step.after, step.revoked, diff)
		}
	}

	// Nobody makes a new one: the old one signs on, to its end and not beyond.
	s.now = born.Add(58 * time.Minute)
	for _, i := range s.issuers {
		i.revoked = i.Generation > 1
	}
	active := activeIssuer(s.issuers, s.now)
	leaf, err := leafTemplate(Leaf{PublicKey: s.root.key.Public(), ID: spiffeid.RequireFromPath(testDomain, "/x"), Life: 10 * time.Minute}, active, s.now)
	must(t, err)
	if active.Generation != 1 || leaf.NotAfter.After(active.Certificate.NotAfter) {
		t.Errorf("issuer %d signs until %s, itself ends at %s", active.Generation, leaf.NotAfter, active.Certificate.NotAfter)
	}
}

func TestEveryMomentHasExactlyOneIssuerThatSigns(t *testing.T) {
	t.Parallel()
	s := newSim(t, DefaultRootLife, 3*time.Minute)
	const leafLife = 30 * time.Second
	for range 2000 { // 33 minutes in steps of a second
		s.rotate()
		list, active := states(s.issuers, s.now)
		if active == nil || strings.Count(line(list), string(Active)) != 1 {
			t.Fatalf("at %s: %s", s.now, line(list))
		}
		template, err := leafTemplate(Leaf{PublicKey: active.key.Public(), ID: spiffeid.RequireFromPath(testDomain, "/x"), Life: leafLife}, active, s.now)
		must(t, err)
		if got := template.NotAfter.Sub(s.now); got < leafLife || got > leafLife+time.Second {
			t.Fatalf("at %s a leaf lives %s, want its full %s: %s", s.now, got, leafLife, line(list))
		}
		s.now = s.now.Add(time.Second)
	}
	if got := len(s.issuers); got < 20 || got > 26 {
		t.Errorf("%d issuers of three minutes in 33 minutes, want one each 80 s or so", got)
	}
}

func TestOtherLivesOfIssuersTakeEffectWithoutWaitingForTheOldOnes(t *testing.T) {
	t.Parallel()
	s := newSim(t, DefaultRootLife, DefaultIssuerLife)
	s.rotate()
	s.life = 3 * time.Minute
	if made, got := s.rotate(), s.line(); !made || got != "1 ACTIVE, 2 PREPARED" {
		t.Errorf("after the lives were shortened: made %v, %s", made, got)
	}
	if s.rotate() {
		t.Error("a second one was made at the same moment")
	}
	s.now = s.now.Add(70 * time.Second)
	if got, want := s.line(), "1 RETIRING, 2 ACTIVE"; got != want {
		t.Errorf("a minute later: %s, want %s", got, want)
	}
}

func TestIssuersEndWithTheirRootAndThenSaySo(t *testing.T) {
	t.Parallel()
	s := newSim(t, time.Hour, DefaultIssuerLife)
	s.rotate()
	if got := s.issuers[0].Certificate.NotAfter; !got.Equal(s.root.cert.NotAfter) {
		t.Errorf("issuer ends at %s, its root at %s", got, s.root.cert.NotAfter)
	}
	s.now = s.now.Add(50 * time.Minute)
	if s.rotate() {
		t.Error("another issuer was made, though none can live longer")
	}
	s.now = s.now.Add(20 * time.Minute)
	if _, err := s.root.newIssuer(2, s.life); err == nil || !strings.Contains(err.Error(), "a new root is needed") {
		t.Errorf("after the root expired: %v", err)
	}
}

func TestWithoutAnIssuerThatSignsTheReasonIsTold(t *testing.T) {
	t.Parallel()
	s := newSim(t, DefaultRootLife, time.Hour)
	born := s.now
	if err := noIssuer(s.issuers, s.now); !strings.Contains(err.Error(), "no issuer yet") {
		t.Errorf("none at all: %v", err)
	}
	s.rotate()
	for after, want := range map[time.Duration]string{-time.Hour: "check the clock", 2 * time.Hour: "has expired", time.Minute: "the clock ran ahead"} {
		if err := noIssuer(s.issuers, born.Add(after)); !strings.Contains(err.Error(), want) {
			t.Errorf("after %s: %v, want a reason with %q", after, err, want)
		}
	}
}
