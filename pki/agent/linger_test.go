//go:build linux || darwin

package agent

import (
	"context"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// noSigner signs nothing.
type noSigner struct{}

func (noSigner) Sign(context.Context, []byte) ([]*x509.Certificate, error) {
	return nil, context.DeadlineExceeded
}

func lingering() (*registry, func() int) {
	r := newRegistry(func(n names) *identity {
		return newIdentity(n, noSigner{}, slog.New(slog.DiscardHandler), time.Now, func(*identity) {})
	}, func(process) {})
	return r, func() int {
		synctest.Wait()
		r.mu.Lock()
		defer r.mu.Unlock()
		return len(r.identities)
	}
}

func TestAnIdentityOfAnEntryLingersForAMinute(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, alive := lingering()
		defer r.stop()
		n := names{id: spiffeid.RequireFromString("spiffe://mesh.local/service/job"), entry: true}
		first := r.hold(n)
		r.release(first)
		time.Sleep(lingerTime - time.Second)
		if again := r.hold(n); again != first {
			t.Error("another identity within the minute, want the one that lingers")
		}
		time.Sleep(2 * lingerTime)
		if alive() != 1 {
			t.Error("an identity that is held again has ended")
		}
		r.release(first)
		time.Sleep(lingerTime - time.Second)
		if alive() != 1 {
			t.Error("the identity ended before a minute was over")
		}
		time.Sleep(2 * time.Second)
		if alive() != 0 {
			t.Error("the identity goes on although nobody held it for a minute")
		}
	})
}

// Somebody asks for the identity at the very moment at which its time is up.
func TestAnIdentityThatIsHeldAgainAtItsLastMomentGoesOn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, alive := lingering()
		defer r.stop()
		n := names{id: spiffeid.RequireFromString("spiffe://mesh.local/service/job"), entry: true}
		first := r.hold(n)
		r.release(first)
		r.mu.Lock()
		time.Sleep(lingerTime) // its end waits for the lock
		again := r.holdLocked(n)
		r.mu.Unlock()
		if again != first || alive() != 1 {
			t.Errorf("%d identities are alive, the same one: %v; want the one that is held", alive(), again == first)
		}
	})
}

func TestNamesOfAnotherKindAreAnotherIdentity(t *testing.T) {
	t.Parallel()
	id := spiffeid.RequireFromString("spiffe://mesh.local/service/ledger")
	seen := map[string]names{}
	for _, n := range []names{
		{id: id}, {id: id, entry: true}, {id: id, dns: []string{"127.0.0.1"}}, {id: id, ips: []net.IP{net.IPv4(127, 0, 0, 1)}},
		{id: id, dns: []string{"a", "b"}}, {id: id, dns: []string{"a\x00b"}}, {id: id, dns: []string{"a b"}},
	} {
		if other, ok := seen[n.key()]; ok {
			t.Errorf("%v is the same identity as %v", n, other)
		}
		seen[n.key()] = n
	}
}

func TestAnIdentityOfARegistrationEndsWithIt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, alive := lingering()
		defer r.stop()
		n := names{id: spiffeid.RequireFromString("spiffe://mesh.local/service/ledger")}
		r.release(r.hold(n))
		if alive() != 0 {
			t.Error("the identity goes on although nobody holds it")
		}
	})
}

func TestAnAgentThatStopsWaitsForNothingThatLingers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, _ := lingering()
		before := time.Now()
		r.release(r.hold(names{id: spiffeid.RequireFromString("spiffe://mesh.local/service/job"), entry: true}))
		r.stop()
		if took := time.Since(before); took != 0 {
			t.Errorf("stopped after %s", took)
		}
	})
}

func TestOneSignatureServesAProgramThatFetchesAgainAndAgain(t *testing.T) {
	t.Parallel()
	selector, err := ParseSelector(fmt.Sprintf("unix:uid:%d", os.Getuid()))
	if err != nil {
		t.Fatal(err)
	}
	a := startAgent(t, func(c *Config, _ *testSigner) {
		c.Entries = []Entry{{ID: spiffeid.RequireFromPath(c.TrustDomain, "/service/job"), Selectors: []Selector{selector}}}
	})
	for range 50 {
		if got := fetch(a.config.Socket); got != "spiffe://mesh.local/service/job" {
			t.Fatalf("got %q", got)
		}
	}
	if got := a.signer.signed(); got != 1 {
		t.Errorf("%d certificates were signed, want 1", got)
	}
}
