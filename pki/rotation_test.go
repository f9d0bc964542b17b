package pki_test

import (
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"

	"example.com/rolecall/pki"
)

// trusts tells whether a verifier that knows this root alone accepts the chain.
func trusts(root *x509.Certificate, chain []*x509.Certificate) bool {
	_, _, err := x509svid.Verify(chain, x509bundle.FromX509Authorities(domain, []*x509.Certificate{root}))
	return err == nil
}

// rootNames lists the roots of a bundle as "old", "new".
func rootNames(bundle *x509bundle.Bundle, oldRoot, newRoot *x509.Certificate) string {
	var names []string
	for _, root := range []*x509.Certificate{oldRoot, newRoot} {
		if bundle.HasX509Authority(root) {
			names = append(names, map[bool]string{true: "old", false: "new"}[root.Equal(oldRoot)])
		}
	}
	return strings.Join(names, " ")
}

func line(list []pki.IssuerStatus) string {
	var parts []string
	for _, status := range list {
		parts = append(parts, string(rune('0'+status.Generation))+" "+string(status.State))
	}
	return strings.Join(parts, ", ")
}

func TestARootIsReplacedAndEveryStepCanBeRepeated(t *testing.T) {
	t.Parallel()
	ca, dir := newCA(t, pki.Config{IssuerLife: time.Hour, LeafLife: 10 * time.Minute})
	issuers, oldRoot := ca.Issuers(), ca.Root()
	online, err := pki.OpenIssuers(filepath.Join(dir, pki.AuthorityDir), nil) // as the authority has it
	if err != nil {
		t.Fatal(err)
	}
	newRoot := nextRootIn(t, dir, pki.RootOptions{TrustDomain: domain})
	if again, err := pki.CreateNextRoot(dir, nil, pki.RootOptions{TrustDomain: domain}); err != nil || !again.Certificate().Equal(newRoot.Certificate()) {
		t.Fatalf("CreateNextRoot again: another root, or %v", err)
	}
	cross, err := oldRoot.SignCross(newRoot.Certificate())
	if err != nil {
		t.Fatal(err)
	}
	if err := issuers.ActivateRoot(); !errors.Is(err, pki.ErrNoRotation) {
		t.Errorf("ActivateRoot before PrepareRoot: %v", err)
	}
	if err := issuers.RetireRoot(); !errors.Is(err, pki.ErrNoRotation) {
		t.Errorf("RetireRoot before PrepareRoot: %v", err)
	}

	type outcome struct {
		Phase              pki.Phase
		Bundle, Issuers    string
		OldTrust, NewTrust bool // who accepts a new leaf
		Chain              int
	}
	// after takes a step twice, lets the roots at hand do their part, and looks at what another process then does.
	after := func(step string, take func() error, want outcome) {
		t.Helper()
		sequence := online.Sequence()
		for n := range 2 {
			if err := take(); err != nil && (n == 0 || !errors.Is(err, pki.ErrNoRotation) && !strings.Contains(err.Error(), "already")) {
				t.Fatalf("%s, call %d: %v", step, n+1, err)
			}
		}
		if _, err := ca.Rotate(); err != nil {
			t.Fatalf("after %s: Rotate: %v", step, err)
		}
		if err := online.Refresh(); err != nil {
			t.Fatalf("after %s: Refresh: %v", step, err)
		}
		chain := issue(t, online, leafFor(t, "/service/ledger"))
		got := outcome{Phase: online.Rotation().Phase, Bundle: rootNames(online.Bundle(), oldRoot.Certificate(), newRoot.Certificate()), Issuers: line(online.Status()),
			OldTrust: trusts(oldRoot.Certificate(), chain), NewTrust: trusts(newRoot.Certificate(), chain), Chain: len(chain)}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("after %s (-want +got):\n%s", step, diff)
		}
		changed := online.Sequence() > sequence
		if wantChange := step != "activate"; changed != wantChange {
			t.Errorf("after %s: sequence %d, before %d; a change of the roots (%v) has a number of its own", step, online.Sequence(), sequence, wantChange)
		}
	}
	after("prepare", func() error { return issuers.PrepareRoot(newRoot.Certificate(), cross) },
		outcome{pki.RotationPrepared, "old new", "1 ACTIVE, 2 PREPARED", true, false, 2})
	if status := online.Status()[1]; !status.ActiveFrom.IsZero() || status.RootSHA256 == online.Status()[0].RootSHA256 {
		t.Errorf("the issuer of the new root: active from %s, root %s; want none before its root is activated, and its own root", status.ActiveFrom, status.RootSHA256)
	}
	if _, err := issuers.Activate(2); err == nil || !strings.Contains(err.Error(), "pki root rotate activate") {
		t.Errorf("an issuer of the new root activated by itself: %v", err)
	}
	if err := issuers.RetireRoot(); err == nil || !strings.Contains(err.Error(), "rotate activate") {
		t.Errorf("RetireRoot before ActivateRoot: %v", err)
	}
	skip := pki.Skip{ID: "spiffe://mesh.local/agent/host2", Reason: "scrapped", By: "spiffe://mesh.local/operator/alice", At: time.Now()}
	if err := issuers.SkipInRotation(skip); err != nil {
		t.Errorf("SkipInRotation: %v", err)
	}
	after("activate", issuers.ActivateRoot, outcome{pki.RotationActivated, "old new", "1 RETIRING, 2 ACTIVE", true, true, 3})
	if got := online.Rotation(); len(got.Skipped) != 1 || got.Skipped[0].ID != skip.ID || got.ActivatedAt.IsZero() || !got.Old.Equal(oldRoot.Certificate()) {
		t.Errorf("Rotation: %+v", got)
	}
	if _, err := issuers.Activate(1); err == nil || !strings.Contains(err.Error(), "is of the old root") {
		t.Errorf("an issuer of the old root activated: %v", err)
	}
	if err := issuers.PrepareRoot(oldRoot.Certificate(), nil); err == nil || !strings.Contains(err.Error(), "under way") {
		t.Errorf("another replacement meanwhile: %v", err)
	}
	after("retire", issuers.RetireRoot, outcome{pki.NoRotation, "new", "1 RETIRED, 2 ACTIVE", false, true, 2})
	if got := onDisk(t, filepath.Join(dir, pki.AuthorityDir)); got != "0001 0002+key" {
		t.Errorf("on disk: %s, want the key of the old root's issuer deleted", got)
	}

	// What had the roots at hand moves them, and goes on.
	if err := pki.AdoptNextRoot(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, pki.NextRootDir)); err == nil {
		t.Error("root-next is still there")
	}
	again, created, err := pki.OpenOrCreate(dir, pki.Config{TrustDomain: domain, IssuerLife: time.Hour, LeafLife: 10 * time.Minute})
	if err != nil || created || !again.Root().Certificate().Equal(newRoot.Certificate()) {
		t.Fatalf("OpenOrCreate after the rotation: created %v, error %v; want the new root at hand", created, err)
	}
	if left, err := filepath.Glob(filepath.Join(dir, "root-retired-*")); err != nil || len(left) != 1 {
		t.Errorf("retired roots: %v (%v), want the old one kept aside", left, err)
	}
}
