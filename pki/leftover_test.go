package pki_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"example.com/rolecall/pki"
)

// A preparation was cut off before its last write, and then given up: what it left must not count for another root.
func TestWhatAPreparationLeftThatWasCutOffDoesNotCountForAnotherRoot(t *testing.T) {
	t.Parallel()
	ca, _ := sharedCA(t)
	dir := copyOfAuthority(t)
	issuers, err := pki.OpenIssuers(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := issuers.BumpSequence(); err != nil {
		t.Fatal(err)
	}
	state, bundle, cross := filepath.Join(dir, "state.json"), filepath.Join(dir, "bundle.pem"), filepath.Join(dir, "cross.pem")
	stateBefore, bundleBefore := read(t, state), read(t, bundle)
	given, next := newRoot(t, domain), newRoot(t, domain)
	over, err := ca.Root().SignCross(given.Certificate())
	if err != nil {
		t.Fatal(err)
	}
	if err := issuers.PrepareRoot(given.Certificate(), over); err != nil {
		t.Fatal(err)
	}
	if !issuers.HasCross() {
		t.Error("no cross certificate after a preparation with one")
	}
	put := func(path string, data []byte) {
		t.Helper()
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := issuers.Refresh(); err != nil {
			t.Fatal(err)
		}
	}
	put(state, stateBefore) // the crash
	if issuers.HasCross() {
		t.Error("no root is being replaced, and there is a cross certificate")
	}
	if err := issuers.PrepareRoot(next.Certificate(), nil); err == nil || !strings.Contains(err.Error(), "was cut off") {
		t.Errorf("another root beside one that nothing was signed under: %v, want a refusal", err)
	}
	if err := issuers.PrepareRoot(given.Certificate(), over); err != nil || !issuers.HasCross() {
		t.Errorf("the same root again completes it: %v", err)
	}
	put(state, stateBefore)
	put(bundle, bundleBefore) // as the refusal says
	if err := issuers.PrepareRoot(next.Certificate(), nil); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(cross); err == nil || issuers.HasCross() {
		t.Errorf("the cross certificate of the root that was given up counts for another: %v", err)
	}
}

// Each --without is a few hundred bytes in state.json. When that is too large nobody can read it, and no authority starts.
func TestAttackStateIsFilledByThoseWhoAreLeftOut(t *testing.T) {
	t.Parallel()
	dir := copyOfAuthority(t)
	issuers, err := pki.OpenIssuers(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := issuers.PrepareRoot(newRoot(t, domain).Certificate(), nil); err != nil {
		t.Fatal(err)
	}
	skip := func(n int) pki.Skip {
		return pki.Skip{ID: fmt.Sprintf("spiffe://mesh.local/service/%d", n), Reason: strings.Repeat("<", 500), By: strings.Repeat("&", 500), At: time.Now()}
	}
	// What so many calls write, in one: JSON writes each of the thousand signs in six bytes.
	var state map[string]any
	path := filepath.Join(dir, "state.json")
	if err := json.Unmarshal(read(t, path), &state); err != nil {
		t.Fatal(err)
	}
	var skipped []pki.Skip
	for n := range 40 {
		skipped = append(skipped, skip(n))
	}
	state["rotation"].(map[string]any)["skipped"] = skipped
	data, err := json.Marshal(state)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	n := len(skipped)
	for ; err == nil && n < 50; n++ {
		err = issuers.SkipInRotation(skip(n))
	}
	if err == nil || n == len(skipped)+1 || !strings.Contains(err.Error(), "too many to be exceptions") {
		t.Fatalf("%d are left out: %v, want a refusal, and not of the first", n, err)
	}
	if _, err := pki.OpenIssuers(dir, nil); err != nil {
		t.Errorf("the authority is started again: %v", err)
	}
	if _, err := issuers.Revoke(1, strings.Repeat("<", 500)); err != nil {
		t.Errorf("there is no room for a revocation: %v", err)
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
