package proof_test

import (
	"context"
	"testing"
	"time"

	"example.com/rolecall/interceptors"
	"example.com/rolecall/interceptors/internal/feature"
	"example.com/rolecall/interceptors/proof"
	"example.com/rolecall/internal/store/storetest"
)

// careless is a window that remembers nothing.
type careless struct{}

func (careless) Burn(context.Context, proof.Nonce) error { return nil }

func TestTheRoomForProofsIsThatOfTheConfiguration(t *testing.T) {
	t.Parallel()
	db, window := openDB(t, storetest.SQLite(t))
	m := newMesh(t, func(c *meshConfig) { c.noKeys = true })
	for _, c := range []struct {
		name   string
		config proof.Config
		room   int
	}{
		{"a number", proof.Config{PerSigner: 30}, 30},
		{"a number larger than the default", proof.Config{PerSigner: 70_000}, 70_000},
		{"nothing", proof.Config{}, 65_536},
		{"a database, and a number", proof.Config{Window: window(db), PerSigner: 10}, 10},
		{"a window of somebody's own, and a number", proof.Config{Window: careless{}, PerSigner: 10}, 10},
	} {
		f := proof.NewFast(c.config)
		m.clock.forward(-time.Minute)
		m.newGuard(m.ca.Source(bankPath), nil, quiet(), interceptors.With(&clocked{f, m.clock.now}))
		m.clock.forward(time.Minute)
		now := m.clock.now()
		uses := map[string]func(*feature.Proof) (feature.Verdict, string){"exactly_once": f.Running().Allow}
		if c.room <= 30 { // the others would take long
			uses["not"] = func(p *feature.Proof) (feature.Verdict, string) { return f.Running().Burn(t.Context(), p) }
		}
		for name, use := range uses {
			signer := m.ca.ID("/service/" + name)
			for i := range c.room + 1 {
				want := feature.Good
				if i == c.room {
					want = feature.Full
				}
				p := &feature.Proof{Signer: signer, Nonce: nonceOf(i), Issued: now, Expires: now.Add(time.Hour)} // however long all of them take
				if got, detail := use(p); got != want {
					t.Fatalf("%s, %s: the proof of number %d: verdict %d, %s, want %d", c.name, name, i+1, got, detail, want)
				}
			}
		}
	}
}

func TestNoProofIsUsedUpOnceTheFeatureIsClosed(t *testing.T) {
	t.Parallel()
	m := newMesh(t, func(c *meshConfig) { c.noKeys = true })
	now := m.clock.now()
	p := &feature.Proof{Signer: m.ca.ID(payer), Nonce: nonceOf(1), Issued: now, Expires: now.Add(35 * time.Second)}
	m.stop()
	if got, detail := m.feature.Running().Burn(t.Context(), p); got != feature.Unavailable {
		t.Errorf("verdict %d, %s, want Unavailable", got, detail)
	}
}
