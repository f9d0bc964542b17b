//go:build linux || darwin

package agent

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"example.com/rolecall/rolecalltest"
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
	time.Sleep(700 * time.Millisecond) // so long that many more would be signed at the same time
	return g.testSigner.Sign(ctx, csr)
}

func TestAttackARevokedIssuerIsNoStorm(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ca := rolecalltest.NewCA(t, "mesh.local")
		g := &gauge{testSigner: &testSigner{td: ca.TrustDomain()}}
		g.issuer, g.key = ca.Intermediate()
		s := newServer(Config{TrustDomain: ca.TrustDomain(), Bundle: ca.Bundle(), Signer: g, Log: slog.New(slog.DiscardHandler), now: time.Now})
		defer s.registry.stop()
		const many = 100
		var all []*identity
		for n := range many {
			all = append(all, s.registry.hold(names{id: ca.ID(fmt.Sprintf("/service/s%d", n))}))
		}
		time.Sleep(time.Minute)
		old := sha256.Sum256(g.issuer.RawSubjectPublicKeyInfo)
		g.mu.Lock()
		g.issuer, g.key = ca.Intermediate()
		g.mu.Unlock()
		g.most.Store(0)
		s.SetRevokedIssuers([][32]byte{old})
		time.Sleep(time.Minute)
		under := 0
		for _, i := range all {
			if current, err := i.current(time.Now()); err == nil && current.chain[1].Equal(g.issuer) {
				under++
			}
		}
		if got := g.signed(); under != many || got != 2*many {
			t.Errorf("%d certificates are under the next issuer and %d were signed, want %d and each once more", under, got, many)
		}
		if got := g.most.Load(); got != signingAtOnce {
			t.Errorf("%d were signed at the same time, want %d", got, signingAtOnce)
		}
	})
}

func TestACertificateOfAnIssuerThatWasRevokedIsNotTaken(t *testing.T) {
	t.Parallel()
	a := startAgent(t, nil)
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
