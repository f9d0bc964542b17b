package rootrotation_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"example.com/rolecall/internal/rootrotation"
	"example.com/rolecall/pki"
)

// examine asks the mesh now.
func (w *world) examine(t *testing.T) *rootrotation.Examination {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	found, err := rootrotation.Examine(ctx, w.ca.Issuers(), w.mesh, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// until waits for a condition on what stands in the way, as long as the last certificate under the old root lives, and a
// little.
func (w *world) until(t *testing.T, what string, ok func([]rootrotation.Obstacle) bool) *rootrotation.Examination {
	t.Helper()
	began := time.Now()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		found, err := rootrotation.Examine(ctx, w.ca.Issuers(), w.mesh, time.Now())
		cancel()
		if err == nil && ok(found.Obstacles) {
			t.Logf("%s after %s", what, time.Since(began).Round(10*time.Millisecond))
			return found
		}
		if time.Since(began) > shortLife+patience {
			t.Fatalf("not within %s: %s; %v, %+v", shortLife+patience, what, err, found)
		}
		<-tick.C
	}
}

func about(id, what string) func(rootrotation.Obstacle) bool {
	return func(o rootrotation.Obstacle) bool { return o.ID == id && strings.Contains(o.What, what) }
}

func nobody(all []rootrotation.Obstacle) bool { return len(all) == 0 }

func TestARootIsReplacedStepByStepAndNotBeforeEverybodyHasSeenTheNewOne(t *testing.T) {
	t.Parallel()
	w := newWorld(t, shortLife)
	issuers := w.ca.Issuers()
	old := w.ca.Root().Certificate()
	ledger := path("/service/ledger").String()

	// No step out of its turn.
	if err := rootrotation.Activate(issuers, nil); err == nil || !strings.Contains(err.Error(), "prepare") {
		t.Errorf("activate before prepare: %v", err)
	}
	if _, err := rootrotation.Examine(t.Context(), issuers, w.mesh, time.Now()); err == nil || !strings.Contains(err.Error(), "prepare") {
		t.Errorf("retire before prepare: %v", err)
	}

	// The service is deaf from before the beginning.
	w.ledger.deaf.Store(issuers.Bundle())
	next, err := pki.CreateNextRoot(w.dir.Path(), nil, pki.RootOptions{TrustDomain: td})
	if err != nil {
		t.Fatal(err)
	}
	proposal, err := rootrotation.Propose(w.ca.Root(), next)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // it can be repeated
		if err := rootrotation.Prepare(issuers, proposal); err != nil {
			t.Fatal(err)
		}
	}
	if !issuers.HasCross() {
		t.Error("no cross certificate after prepare")
	}
	if _, err := rootrotation.Examine(t.Context(), issuers, w.mesh, time.Now()); err == nil || !strings.Contains(err.Error(), "activate") {
		t.Errorf("retire before activate: %v", err)
	}
	if err := rootrotation.Activate(issuers, newRoot(t, "mesh.local")); err == nil || !strings.Contains(err.Error(), "not the one that was prepared") {
		t.Errorf("activate with a root that was not prepared: %v", err)
	}
	for range 2 {
		if err := rootrotation.Activate(issuers, next); err != nil {
			t.Fatal(err)
		}
	}

	// What stands in the way for as long as nothing is done about it: the deaf service.
	found := w.until(t, "the authority follows", func(all []rootrotation.Obstacle) bool {
		return slices.ContainsFunc(all, about(ledger, "does not trust the new root yet"))
	})
	var unsafe *rootrotation.UnsafeError
	if err := rootrotation.Retire(issuers, found); !errors.As(err, &unsafe) || !strings.Contains(err.Error(), ledger) {
		t.Errorf("retire of a root that one service has not seen: %v", err)
	}
	if got := len(issuers.Bundle().X509Authorities()); got != 2 {
		t.Fatalf("a refused step changed the bundle: %d roots", got)
	}
	// Only the deaf service is left once everything under the old root has ended.
	found = w.until(t, "everything under the old root has ended", func(all []rootrotation.Obstacle) bool {
		return len(all) > 0 && !slices.ContainsFunc(all, func(o rootrotation.Obstacle) bool { return o.ID != ledger || strings.Contains(o.What, "alive") })
	})
	// The service has renewed like all others: a late verifier finds the way by the cross certificate.
	if len(w.svid().Certificates) != 3 {
		t.Errorf("the chain has %d certificates, want leaf, issuer and cross certificate", len(w.svid().Certificates))
	}
	if err := rootrotation.Skip(issuers, found, []string{ledger, path("/service/none").String()}, "why not", "alice", time.Now()); err == nil || len(issuers.Rotation().Skipped) > 0 {
		t.Errorf("somebody who stands in nobody's way was left out, or another one for it: %v, %+v", err, issuers.Rotation().Skipped)
	}
	if err := rootrotation.Retire(issuers, found); err == nil {
		t.Fatal("retired while a service has not seen the new root")
	}
	w.ledger.deaf.Store(nil)
	found = w.until(t, "nobody is missing", nobody)
	if found.Services != 2 || found.Live < 4 {
		t.Errorf("%d services, %d identities: want 2, and 4 at least", found.Services, found.Live)
	}
	if err := rootrotation.Retire(issuers, found); err != nil {
		t.Fatal(err)
	}
	roots := issuers.Bundle().X509Authorities()
	if len(roots) != 1 || !roots[0].Equal(next.Certificate()) || roots[0].Equal(old) {
		t.Errorf("%d roots after the retirement, want the new one alone", len(roots))
	}
	if _, err := os.Stat(filepath.Join(w.dir.Authority(), "cross.pem")); err == nil || issuers.HasCross() {
		t.Errorf("the cross certificate is still there: %v", err)
	}
	if err := pki.AdoptNextRoot(w.dir.Path()); err != nil {
		t.Fatal(err)
	}
	if _, err := w.ca.Rotate(); err != nil || !w.ca.HasRoot() {
		t.Errorf("the new root is at hand: %v, %v", w.ca.HasRoot(), err)
	}
}

func TestWithoutACrossCertificateTheNewRootSignsOnceEverybodyKnowsIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t, longLife)
	issuers := w.ca.Issuers()
	w.ledger.deaf.Store(issuers.Bundle())
	next, err := pki.CreateNextRoot(w.dir.Path(), nil, pki.RootOptions{TrustDomain: td})
	if err != nil {
		t.Fatal(err)
	}
	proposal, err := rootrotation.Propose(nil, next)
	if err != nil {
		t.Fatal(err)
	}
	if err := rootrotation.Prepare(issuers, proposal); err != nil || issuers.HasCross() {
		t.Fatalf("prepare: %v, cross certificate: %v", err, issuers.HasCross())
	}
	ready := func(want func([]rootrotation.Obstacle) bool) bool {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		found, err := rootrotation.ReadyToActivate(ctx, issuers, w.mesh, time.Now().Add(4*time.Minute)) // past three refresh hints of a minute
		return err == nil && want(found.Obstacles)
	}
	waitFor(t, "the deaf service is missed, and nobody else", func() bool {
		return ready(func(all []rootrotation.Obstacle) bool {
			return len(all) > 0 && !slices.ContainsFunc(all, func(o rootrotation.Obstacle) bool { return o.ID != path("/service/ledger").String() })
		})
	})
	w.ledger.deaf.Store(nil)
	waitFor(t, "everybody knows the new root", func() bool { return ready(nobody) })
	if err := rootrotation.Activate(issuers, next); err != nil {
		t.Fatal(err)
	}
	if issuers.Rotation().Phase != pki.RotationActivated {
		t.Errorf("phase %q", issuers.Rotation().Phase)
	}
	t.Run("who is left out is on record", w.leftOut)
	t.Run("nobody is asked in a way that proves nothing", w.askedInVain)
}
