//go:build unix

package e2e_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// rotateRoot replaces the root of a mesh that is up, by the commands that an operator types. A step that would not be safe
// yet is refused with a reason and tried again.
func rotateRoot(t *testing.T, running *runningMesh) {
	t.Helper()
	began := time.Now()
	for _, step := range []string{"prepare", "activate", "retire"} {
		tries := 0
		awaitEvery(t, time.Second, "root rotate "+step, rootStep, func() error {
			tries++
			out, code := runRolecall(t, "pki", "root", "rotate", step, "--dir", running.dir)
			if code == 0 {
				t.Logf("root rotate %s, try %d, %s after the first step:\n%s", step, tries, time.Since(began).Round(time.Second), out)
				return nil
			}
			if code != 1 {
				t.Fatalf("root rotate %s: exit code %d\n%s", step, code, out)
			}
			return errors.New(out)
		})
	}
}

// rootStep is how long one step of the replacement of a root may take: leaves under the old root must have ended, and
// everybody must have been sent the new bundle, three times over.
const rootStep = 3 * time.Minute

// TestARootIsNotRetiredWhileOneServiceHasNotSeenIt stops the ledger's process before the new root is made, so that it cannot
// know of it, and wants the last step refused for as long as that is so.
func TestARootIsNotRetiredWhileOneServiceHasNotSeenIt(t *testing.T) {
	t.Parallel()
	running := startMesh(t, "--leaf-ttl", "15s", "--issuer-ttl", "10m")
	ledger := running.service(t, "ledger")
	before := readFile(t, running.file.Bundle)
	rotate := func(step string, args ...string) (string, int) {
		return runRolecall(t, append([]string{"pki", "root", "rotate", step, "--dir", running.dir}, args...)...)
	}
	if out, code := rotate("prepare", "--dry-run"); code != 0 || !strings.Contains(out, "retire") {
		t.Errorf("--dry-run prints no timeline: exit code %d\n%s", code, out)
	}
	if now := readFile(t, running.file.Bundle); now != before {
		t.Error("--dry-run has changed the bundle")
	}
	if out, code := rotate("activate"); code != 1 || !strings.Contains(out, "prepare") {
		t.Errorf("activate before prepare: exit code %d, want 1 and the step that comes first\n%s", code, out)
	}

	signal(t, ledger.PID, syscall.SIGSTOP)
	stopped := true
	defer func() {
		if stopped {
			signal(t, ledger.PID, syscall.SIGCONT) // a process that was stopped would not end either
		}
	}()
	for _, step := range []string{"prepare", "prepare", "activate", "activate"} { // again and again does no harm
		if out, code := rotate(step); code != 0 {
			t.Fatalf("%s: exit code %d\n%s", step, code, out)
		}
	}
	// Once nobody else is missing, the ledger still is.
	awaitEvery(t, time.Second, "the ledger alone stands in the way", rootStep, func() error {
		out, code := rotate("retire", "--timeout", "5s")
		if code == 0 {
			t.Fatalf("the old root was retired while the ledger knows only that one:\n%s", out)
		}
		if code != 1 || !strings.Contains(out, ledger.ID) { // as when the authority was not there in time
			return fmt.Errorf("exit code %d, and it does not name %s:\n%s", code, ledger.ID, out)
		}
		for _, other := range []string{"authority", "users", "tokens", "keys", "orders"} {
			if strings.Contains(out, running.service(t, other).ID) {
				return errors.New(out)
			}
		}
		return nil
	})
	if got := len(certificatesIn(t, filepath.Join(running.dir, "authority", "bundle.pem"))); got != 2 {
		t.Errorf("the bundle holds %d roots, want both", got)
	}
	signal(t, ledger.PID, syscall.SIGCONT)
	stopped = false
	awaitEvery(t, time.Second, "the old root is retired when the ledger has seen the new one", rootStep, func() error {
		if out, code := rotate("retire"); code != 0 {
			return errors.New(out)
		}
		return nil
	})
	if got := certificatesIn(t, filepath.Join(running.dir, "authority", "bundle.pem")); len(got) != 1 {
		t.Errorf("the bundle holds %d roots, want the new one", len(got))
	}
	openAccounts(t, running.caller(t, "alice").ledger(t), "")
}
