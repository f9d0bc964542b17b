//go:build linux || darwin

package agent

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// nobody is a user that owns nothing.
const nobody = 65534

// asNobody makes a process run as another user, which only root can. In CI, run by root, it must work.
func asNobody(t *testing.T) func(*exec.Cmd) { return asUser(t, nobody) }

func asUser(t *testing.T, uid uint32) func(*exec.Cmd) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("only root can start a process of another user")
	}
	own, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(own)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "nobody") // the other user cannot reach the test binary where go test puts it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	copied := filepath.Join(dir, "child")
	syscall.ForkLock.RLock() // what another test starts meanwhile would have the file open for writing for a moment, and ours could not run it
	err = os.WriteFile(copied, data, 0o755)
	syscall.ForkLock.RUnlock()
	if err := errors.Join(err, os.Chmod(copied, 0o755), os.Chmod(dir, 0o755)); err != nil {
		t.Fatal(err)
	}
	return func(cmd *exec.Cmd) {
		cmd.Path, cmd.Dir = copied, "/"
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	}
}

func TestAttackAnotherLocalUsersProcessOnTheSocket(t *testing.T) {
	t.Parallel()
	change := asNobody(t)
	private := startAgent(t, nil)
	private.register(t, "/service/ledger")
	if _, got := start(t, "fetch", private.config.Socket, change); got != "Unavailable" {
		t.Errorf("through the private directory it got %q, want no connection at all", got)
	}

	shared := startAgent(t, func(c *Config, _ *testSigner) {
		c.Shared, c.JWT = true, newTestJWT(t, "first")
		c.Control = filepath.Join(mustMkdir(t, filepath.Join(filepath.Dir(c.Control), "private")), "control.sock")
		if err := os.Chmod(filepath.Dir(c.Socket), 0o755); err != nil {
			t.Fatal(err)
		}
	})
	shared.register(t, "/service/ledger") // this process: the other user's is its child, and still not the workload
	if _, got := start(t, "fetch", shared.config.Socket, change); got != "PermissionDenied" {
		t.Errorf("another user's child of a registered process got %q, want PermissionDenied", got)
	}
	if _, got := start(t, "jwt", shared.config.Socket, change); got != "PermissionDenied PermissionDenied PermissionDenied" {
		t.Errorf("it was answered %q about JWT-SVIDs, want PermissionDenied each time", got)
	}
	if _, got := start(t, "list", shared.config.Control, change); got == "<nil>" {
		t.Error("another user may list registrations")
	}
	if err := os.Chmod(filepath.Dir(shared.config.Control), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(shared.config.Control, 0o666); err != nil {
		t.Fatal(err)
	}
	if _, got := start(t, "list", shared.config.Control, change); !strings.Contains(got, "is for uid 0 only") {
		t.Errorf("the control socket, all modes opened, answered another user %q, want a refusal", got)
	}
}

func TestAnotherUsersProcessIsServedByAnEntryForIt(t *testing.T) {
	t.Parallel()
	change := asNobody(t)
	a := startAgent(t, func(c *Config, _ *testSigner) {
		c.Shared = true
		c.Control = filepath.Join(mustMkdir(t, filepath.Join(filepath.Dir(c.Control), "private")), "control.sock")
		if err := os.Chmod(filepath.Dir(c.Socket), 0o755); err != nil {
			t.Fatal(err)
		}
		entries, err := ParseEntries([]byte("entries: [{spiffeId: spiffe://mesh.local/service/nobody, selectors: ['unix:uid:65534', 'unix:gid:65534']}]"), c.TrustDomain)
		if err != nil {
			t.Fatal(err)
		}
		c.Entries = entries
	})
	if _, got := start(t, "fetch", a.config.Socket, change); got != "spiffe://mesh.local/service/nobody" {
		t.Errorf("got %q, want the entry's identity", got)
	}
}

func mustMkdir(t *testing.T, path string) string {
	t.Helper()
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

// A uid that nobody knows, and no entry either, on every method of a socket that is open to all.
func TestAttackAnUnknownUID(t *testing.T) {
	t.Parallel()
	change := asUser(t, 54321)
	a := startAgent(t, func(c *Config, _ *testSigner) {
		c.Shared, c.JWT = true, newTestJWT(t, "first")
		c.Control = filepath.Join(mustMkdir(t, filepath.Join(filepath.Dir(c.Control), "private")), "control.sock")
		if err := os.Chmod(filepath.Dir(c.Socket), 0o755); err != nil {
			t.Fatal(err)
		}
		c.Entries = []Entry{{ID: spiffeid.RequireFromPath(c.TrustDomain, "/service/root"), Selectors: []Selector{{"uid", "0"}}}}
	})
	if _, got := start(t, "fetch", a.config.Socket, change); got != "PermissionDenied" {
		t.Errorf("it got %q, want PermissionDenied", got)
	}
	if _, got := start(t, "jwt", a.config.Socket, change); got != "PermissionDenied PermissionDenied PermissionDenied" {
		t.Errorf("it was answered %q about JWT-SVIDs, want PermissionDenied each time", got)
	}
}
