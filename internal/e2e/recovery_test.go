//go:build unix

package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	ledgerv1 "example.com/rolecall/gen/ledger/v1"
	"example.com/rolecall/internal/mesh"
	"example.com/rolecall/pki"
)

// makeExpiredMesh makes the folder of a mesh that was last up so long ago that everything but the root has ended: issuers,
// the agent's certificate, the operators' files.
func makeExpiredMesh(t *testing.T, dir string, ago time.Duration) mesh.Dir {
	t.Helper()
	d, err := mesh.Create(dir)
	if err != nil {
		t.Fatal(err)
	}
	td := spiffeid.RequireTrustDomainFromString("mesh.local")
	ca, _, err := pki.OpenOrCreate(d.Path(), pki.Config{TrustDomain: td, Now: func() time.Time { return time.Now().Add(-ago) }})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ca.Issuers().IssueCredential(pki.Leaf{ID: spiffeid.RequireFromPath(td, "/service/agent")}, d.AgentCredential()); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"alice", "bob", "carol"} {
		cert, key := d.OperatorCert(name)
		if err := os.MkdirAll(filepath.Dir(cert), 0o700); err != nil {
			t.Fatal(err)
		}
		if _, err := ca.Issuers().IssueFiles(pki.Leaf{ID: spiffeid.RequireFromPath(td, "/operator/"+name)}, cert, key); err != nil {
			t.Fatal(err)
		}
	}
	return d
}

// month is for how long a machine was off: longer than any issuer lives.
const month = 31 * 24 * time.Hour

func TestEverythingHasExpiredAndUpStartsAllTheSame(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "mesh")
	d := makeExpiredMesh(t, dir, month)
	alice, _ := d.OperatorCert("alice")
	if _, code := runRolecall(t, "inspect", alice); code != 1 {
		t.Fatalf("alice's certificate has not expired: inspect ends with %d", code)
	}
	root := readFile(t, filepath.Join(dir, "root", "root.crt"))
	running := startMeshIn(t, dir)
	admin := running.caller(t, "alice").ledger(t)
	from, to := openAccounts(t, admin, "")
	pay(t, admin, from, to, 1)
	if now := readFile(t, filepath.Join(dir, "root", "root.crt")); now != root {
		t.Error("the root was replaced, which only an operator may do")
	}
	if out, code := running.rolecall(t, "status"); code != 0 {
		t.Errorf("status ends with %d\n%s", code, out)
	}
}

func TestEverythingHasExpiredAndTheRootIsElsewhere(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "mesh")
	makeExpiredMesh(t, dir, month)
	offline := filepath.Join(t.TempDir(), "root")
	if err := os.Rename(filepath.Join(dir, "root"), offline); err != nil {
		t.Fatal(err)
	}
	ca := filepath.Join(dir, "authority")
	// It cannot start, and says what only the operator can do: the three commands, in their order.
	out := mustFail(t, []string{"expired", "rolecall pki issuer csr", "rolecall pki issuer sign", "rolecall pki issuer import"}, "up", "--dir", dir, "--base-port", "0")
	t.Log(out)
	csr, cert := filepath.Join(t.TempDir(), "issuer.csr"), filepath.Join(t.TempDir(), "issuer.crt")
	mustRun(t, "pki", "issuer", "csr", "--ca", ca, "--out", csr)
	mustRun(t, "pki", "issuer", "sign", "--root", offline, "--csr", csr, "--out", cert, "--passphrase-file", filepath.Join(offline, "passphrase"))
	mustRun(t, "pki", "issuer", "import", "--ca", ca, cert)
	running := startMeshIn(t, dir)
	openAccounts(t, running.caller(t, "alice").ledger(t), "")
	if out, code := running.rolecall(t, "status"); code != 0 {
		t.Errorf("status ends with %d\n%s", code, out)
	}
}

// TestEverythingExpiresInARunningMeshAndAnImportBringsItBack lets the last issuer of a mesh without a root end. That is told
// ahead of time, and the three commands of the operator repair it, without a restart of anything.
func TestEverythingExpiresInARunningMeshAndAnImportBringsItBack(t *testing.T) {
	t.Parallel()
	buildRolecall(t) // which may take longer than the issuer lives
	dir, elsewhere := filepath.Join(t.TempDir(), "mesh"), t.TempDir()
	makeOlderCA(t, dir, rotation{leaf: outageLeaf, issuer: 6 * outageLeaf, age: 3 * outageLeaf})
	root := filepath.Join(elsewhere, "root")
	if err := os.Rename(filepath.Join(dir, "root"), root); err != nil {
		t.Fatal(err)
	}
	running := startMeshIn(t, dir, "--leaf-ttl", outageLeaf.String(), "--issuer-ttl", (6 * outageLeaf).String())
	before := running.pids()
	ledger := running.caller(t, "alice").ledger(t)
	_, account := openAccounts(t, ledger, "")
	balance := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), callTimeout)
		defer cancel()
		_, err := ledger.GetBalance(ctx, &ledgerv1.GetBalanceRequest{AccountId: account})
		return err
	}
	awaitEvery(t, time.Second, "status says that somebody must act, and how", time.Minute, func() error {
		out, code := running.rolecall(t, "status")
		if err := balance(); err != nil {
			t.Fatalf("a call before anything has expired: %v\n%s", err, out)
		}
		for _, step := range []string{"rolecall pki issuer csr", "rolecall pki issuer sign", "rolecall pki issuer import"} {
			if code != 1 || !strings.Contains(out, step) {
				return fmt.Errorf("exit code %d, want 1 and %q:\n%s", code, step, out)
			}
		}
		return nil
	})
	awaitEvery(t, 200*time.Millisecond, "everything has expired", time.Minute, func() error {
		if err := balance(); err == nil {
			return errors.New("calls still work")
		}
		return nil
	})
	csr, cert := filepath.Join(elsewhere, "issuer.csr"), filepath.Join(elsewhere, "issuer.crt")
	mustRun(t, "pki", "issuer", "csr", "--dir", dir, "--out", csr)
	mustRun(t, "pki", "issuer", "sign", "--root", root, "--passphrase-file", filepath.Join(root, "passphrase"), "--csr", csr, "--out", cert)
	mustRun(t, "pki", "issuer", "import", "--dir", dir, cert)
	await(t, "calls work again", balance)
	f, err := running.readFile()
	if err != nil {
		t.Fatal(err)
	}
	if now := (&runningMesh{file: f}).pids(); !maps.Equal(before, now) {
		t.Errorf("processes were started again: %v, and were %v", now, before)
	}
}

// outageLeaf is how long leaves live in a mesh that loses its authority.
const outageLeaf = 20 * time.Second

// margin is how long before its end a leaf is renewed, at the least: 45 % of its life.
const margin = outageLeaf * 45 / 100

// TestAuthorityIsAwayAndNobodyNeedsToActWhenItIsBack stops the authority's process, so that it answers nobody and nobody
// starts it again, and lets it go on.
func TestAuthorityIsAwayAndNobodyNeedsToActWhenItIsBack(t *testing.T) {
	t.Parallel()
	running := startMesh(t, "--leaf-ttl", outageLeaf.String(), "--issuer-ttl", "10m")
	alice := running.caller(t, "alice")
	ledger := alice.ledger(t)
	_, account := openAccounts(t, ledger, "")
	balance := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), callTimeout)
		defer cancel()
		_, err := ledger.GetBalance(ctx, &ledgerv1.GetBalanceRequest{AccountId: account})
		return err
	}
	authority, before := running.service(t, "authority").PID, running.pids()
	stopped := func(t *testing.T, during func()) {
		t.Helper()
		signal(t, authority, syscall.SIGSTOP)
		var once sync.Once
		goOn := func() { once.Do(func() { signal(t, authority, syscall.SIGCONT) }) }
		defer goOn() // a process that was stopped would not end either
		during()
	}
	// The subtests follow each other.
	t.Run("for less than the margin, and no call fails", func(t *testing.T) {
		calls := 0
		tick := time.NewTicker(pace)
		defer tick.Stop()
		callFor := func(d time.Duration, when string) {
			for until := time.Now().Add(d); time.Now().Before(until); <-tick.C {
				calls++
				if err := balance(); err != nil {
					t.Fatalf("call %d %s: %v", calls, when, err)
				}
			}
		}
		stopped(t, func() { callFor(margin/2, "while the authority is away") })
		// And afterwards, until whatever was not renewed meanwhile would have ended.
		callFor(outageLeaf, "after the authority is back")
		t.Logf("%d calls, none failed", calls)
	})
	t.Run("for longer, until calls fail, and all recovers by itself", func(t *testing.T) {
		stopped(t, func() {
			awaitFor(t, "calls fail", 3*outageLeaf, func() error {
				if err := balance(); err == nil {
					return fmt.Errorf("they still work")
				}
				return nil
			})
		})
		// Within one retry: a renewal that fails is tried again after ten seconds at most. As long again is for what the machine
		// does besides.
		awaitFor(t, "calls work again", 2*longestRetry, balance)
		for _, service := range []string{"ledger", "users", "tokens", "keys", "orders"} {
			await(t, service+" has a certificate that is good", func() error {
				if left := time.Until(alice.shown(t, service).NotAfter); left < 0 {
					return fmt.Errorf("it ended %s ago", -left)
				}
				return nil
			})
		}
		f, err := running.readFile()
		if err != nil {
			t.Fatal(err)
		}
		if now := (&runningMesh{file: f}).pids(); !maps.Equal(before, now) {
			t.Errorf("processes were started again: %v, and were %v", now, before)
		}
	})
}

// longestRetry is the longest time between two tries to renew.
const longestRetry = 10 * time.Second

func signal(t *testing.T, pid int, sig syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(pid, sig); err != nil {
		t.Errorf("%s to process %d: %v", sig, pid, err)
	}
}
