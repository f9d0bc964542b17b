//go:build linux || darwin

package agent

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// gauge is a signer that knows how many requests it has at the same time, at most.
type gauge struct {
	*testSigner
	now, most atomic.Int64
}

func (g *gauge) Sign(ctx context.Context, csr []byte) ([]*x509.Certificate, error) {
	now := g.now.Add(1)
	defer g.now.Add(-1)
	for most := g.most.Load(); now > most && !g.most.CompareAndSwap(most, now); most = g.most.Load() {
	}
	time.Sleep(time.Millisecond) // a network
	return g.testSigner.Sign(ctx, csr)
}

func TestAttackARevokedIssuerIsNoStorm(t *testing.T) {
	t.Parallel()
	var g *gauge
	a := startAgent(t, func(c *Config, s *testSigner) {
		s.life = 20 * time.Second // so that at once is within a second
		g = &gauge{testSigner: s}
		c.Signer, c.Log = g, slog.New(slog.DiscardHandler)
	})
	const many = 100
	for n := range many {
		registered, err := Register(t.Context(), a.config.Control, Registration{ID: a.id(fmt.Sprintf("/service/s%d", n)), PID: os.Getpid()})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = registered.Close(); <-registered.Gone() })
	}
	old := sha256.Sum256(a.signer.issuer.RawSubjectPublicKeyInfo)
	a.signer.mu.Lock()
	a.signer.issuer, a.signer.key = a.ca.Intermediate()
	next := a.signer.issuer
	a.signer.mu.Unlock()
	g.most.Store(0)
	a.SetRevokedIssuers([][32]byte{old})
	eventually(t, "a hundred certificates under the next issuer", func() bool {
		under := 0
		for _, reg := range a.registry.list() {
			if current, err := reg.identity.current(time.Now()); err == nil && current.chain[1].Equal(next) {
				under++
			}
		}
		return under == many
	})
	if got := a.signer.signed(); got != 2*many {
		t.Errorf("%d certificates were signed, want %d and each once more", got, many)
	}
	if got := g.most.Load(); got > signingAtOnce {
		t.Errorf("%d were signed at the same time, want %d at most", got, signingAtOnce)
	}
}

func TestACertificateOfAnIssuerThatWasRevokedIsNotTaken(t *testing.T) {
	t.Parallel()
	a := startAgent(t, func(_ *Config, s *testSigner) { s.life = 20 * time.Second })
	a.register(t, "/service/ledger")
	one := a.registry.list()[0].identity
	before, err := one.current(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	a.SetRevokedIssuers([][32]byte{sha256.Sum256(a.signer.issuer.RawSubjectPublicKeyInfo)}) // the authority does not know
	eventually(t, "a renewal that fails", func() bool {
		one.mu.Lock()
		defer one.mu.Unlock()
		return one.err != nil
	})
	if now, err := one.current(time.Now()); err != nil || now != before {
		t.Errorf("%v, %v; want the certificate at hand to serve on", now, err)
	}
	a.SetRevokedIssuers(nil)
	eventually(t, "a renewal", func() bool {
		now, err := one.current(time.Now())
		return err == nil && now != before
	})
}

// expiring signs certificates that ended before they came: the authority's clock is behind.
type expiring struct {
	*testSigner
	asked atomic.Int64
}

func (e *expiring) Sign(ctx context.Context, csr []byte) ([]*x509.Certificate, error) {
	e.asked.Add(1)
	return e.testSigner.Sign(ctx, csr)
}

func TestCertificatesThatHaveEndedWhenTheyComeAreNoStorm(t *testing.T) {
	t.Parallel()
	a := startAgent(t, nil)
	signer := &expiring{testSigner: &testSigner{td: a.ca.TrustDomain(), issuer: a.signer.issuer, key: a.signer.key, life: -time.Hour}}
	synctest.Test(t, func(t *testing.T) {
		i := newIdentity(names{id: spiffeid.RequireFromString("spiffe://mesh.local/service/x")}, signer, slog.New(slog.DiscardHandler), time.Now, func(*identity) {})
		ctx, cancel := context.WithCancel(t.Context())
		go i.run(ctx)
		time.Sleep(10 * time.Minute)
		cancel()
		if got := signer.asked.Load(); got > 120 {
			t.Errorf("%d requests in ten minutes, want a few each minute", got)
		}
		if _, err := i.current(time.Now()); err == nil {
			t.Error("a certificate that has ended is handed out")
		} else {
			t.Log(err)
		}
	})
}
