package usertoken

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"example.com/rolecall/interceptors/internal/feature"
	"example.com/rolecall/interceptors/internal/jws"
)

func TestWhatIsRevokedIsForgottenWhenEveryTokenHasExpired(t *testing.T) {
	t.Parallel()
	const life = 10 * time.Minute
	start := time.Now()
	user := &feature.User{Subject: "alice", Session: "s", Generation: 1}
	for _, c := range []struct {
		name string
		rev  revocation
		held time.Duration // how long it is remembered at least, and at most
	}{
		{"a session", revocation{session: "s", until: start.Add(time.Hour)}, time.Hour},
		{"a generation", revocation{user: "alice", generation: 2, until: start.Add(time.Hour)}, time.Hour},
		{"a session that may be forgotten at once", revocation{session: "s", until: start}, life},
		{"a generation without a time", revocation{user: "alice", generation: 2}, life},
	} {
		r := newRevocations(life)
		if err := r.add([]revocation{c.rev}, start); err != nil {
			t.Fatal(err)
		}
		r.forget(start.Add(c.held - time.Second))
		if !r.hit(user) || r.len() != 1 {
			t.Errorf("%s: forgotten too early", c.name)
		}
		r.forget(start.Add(c.held))
		if r.hit(user) || r.len() != 0 {
			t.Errorf("%s: still there", c.name)
		}
	}
}

func TestRevocationsAreBoundedAndFailClosed(t *testing.T) {
	t.Parallel()
	r := newRevocations(time.Minute)
	r.most = 10
	for i := range 10 {
		if err := r.add([]revocation{{session: fmt.Sprint(i)}}, time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	f := &follower{revoked: r, now: time.Now, batch: []revocation{{session: "one too many"}}}
	f.complete.Store(true)
	if err := f.flush(); !errors.Is(err, errTooManyRevocations) || f.complete.Load() {
		t.Errorf("%v, and tokens are accepted: %v", err, f.complete.Load())
	}
}

func TestRevocationsAreReadWhileTheyChange(t *testing.T) {
	t.Parallel()
	r, now := newRevocations(time.Minute), time.Now()
	user := &feature.User{Subject: "alice", Session: "s", Generation: 1}
	if err := r.add([]revocation{{session: "s"}}, now); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := range 500 {
				if w == 0 {
					r.forget(now)
				} else if err := r.add([]revocation{{session: fmt.Sprint(w, i)}, {user: fmt.Sprint(w, i), generation: 1}}, now); err != nil {
					t.Error(err)
				}
				if !r.hit(user) {
					t.Error("a revocation was gone for a moment")
				}
			}
		})
	}
	wg.Wait()
	r.forget(now)
	if n := r.len(); n != 1+3*500*2 {
		t.Errorf("%d are remembered, want %d", n, 1+3*500*2)
	}
}

func TestACacheForgetsWhatExpiredAndWhatWasPurged(t *testing.T) {
	t.Parallel()
	c, now := newCache(64), time.Now()
	sum := func(i int) tokenSum { return sha256.Sum256([]byte{byte(i)}) }
	for i := range 10 {
		c.put(sum(i), &feature.User{Expires: now.Add(time.Duration(i) * time.Second)}, c.age())
	}
	c.sweep(now.Add(5 * time.Second))
	for i := range 10 {
		if got, want := c.get(sum(i)) != nil, i >= 5; got != want {
			t.Errorf("token that expires after %d s: remembered: %v, want %v", i, got, want)
		}
	}
	// A token whose key went bad while its signature was checked.
	age := c.age()
	c.purge()
	c.put(sum(1), &feature.User{}, age)
	if n := c.len(); n != 0 {
		t.Errorf("%d tokens are remembered after a purge", n)
	}
}

// slowKeys is a source whose fetches take a while.
type slowKeys struct {
	fetches atomic.Int64
	err     error
}

func (*slowKeys) lookup(string) (jws.Key, bool) { return jws.Key{}, false }

func (s *slowKeys) fetch(ctx context.Context) error {
	s.fetches.Add(1)
	select {
	case <-time.After(500 * time.Millisecond):
		return s.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func TestOneFetchAtATimeAndOneInAnInterval(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		source := &slowKeys{}
		ring := &keyring{keySource: source, ctx: t.Context(), interval: time.Second, timeout: 2 * time.Second}
		ask := func(n int) map[feature.Verdict]int {
			var mu sync.Mutex
			var wg sync.WaitGroup
			verdicts := map[feature.Verdict]int{}
			for range n {
				wg.Go(func() {
					_, verdict, _ := ring.find("k")
					mu.Lock()
					defer mu.Unlock()
					verdicts[verdict]++
				})
			}
			wg.Wait()
			return verdicts
		}
		if got := ask(200); got[feature.Invalid] != 200 || source.fetches.Load() != 1 {
			t.Errorf("200 at a time: %v after %d fetches", got, source.fetches.Load())
		}
		time.Sleep(900 * time.Millisecond)
		if got := ask(200); got[feature.Invalid] != 200 || source.fetches.Load() != 1 {
			t.Errorf("200 within the interval: %v after %d fetches", got, source.fetches.Load())
		}
		time.Sleep(200 * time.Millisecond)
		source.err = errors.New("down")
		if got := ask(200); got[feature.Unavailable] != 200 || source.fetches.Load() != 2 {
			t.Errorf("200 while the source is down: %v after %d fetches", got, source.fetches.Load())
		}
		time.Sleep(2 * time.Second)
		source.err = nil
		// More than may wait are told at once that nobody can tell.
		got := ask(1000)
		if got[feature.Unavailable] != 1000-1-maxWaiting || source.fetches.Load() != 3 {
			t.Errorf("1000 at a time: %v after %d fetches", got, source.fetches.Load())
		}
	})
}

func TestAFetchThatHangsIsGivenUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ring := &keyring{keySource: hanging{}, ctx: t.Context(), interval: time.Second, timeout: 2 * time.Second}
		start := time.Now()
		if _, verdict, _ := ring.find("k"); verdict != feature.Unavailable || time.Since(start) != 2*time.Second {
			t.Errorf("verdict %d after %s", verdict, time.Since(start))
		}
	})
}

type hanging struct{}

func (hanging) lookup(string) (jws.Key, bool) { return jws.Key{}, false }

func (hanging) fetch(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}
