package agent

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestAttackAnotherFileAtThePathInAMountNamespace has a process run a file of its own under the path that an entry names:
// mounted over it where only the process sees it.
func TestAttackAnotherFileAtThePathInAMountNamespace(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "billing")
	if err := os.WriteFile(path, []byte("#!/bin/false\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("unshare", "-Urm", "sh", "-c", `mount --bind "$(command -v sleep)" "$1" && exec "$1" 600`, "sh", path)
	if err := cmd.Start(); err != nil {
		withoutNamespaces(t, err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait(); close(ended) }()
	t.Cleanup(func() { _ = cmd.Process.Kill(); <-ended })
	eventually(t, "the process runs under the path, or cannot", func() bool {
		select {
		case err := <-ended:
			withoutNamespaces(t, err)
		default:
		}
		name, err := executablePath(cmd.Process.Pid)
		return err == nil && name == path
	})
	if fits, err := runs(cmd.Process.Pid, path); fits || err != nil {
		t.Errorf("the process is taken for the one at %s: %v, %v", path, fits, err)
	}
}

// withoutNamespaces skips the test, but not where everything has to be there.
func withoutNamespaces(t *testing.T, err error) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("no mount namespace could be made: %v", err)
	}
	t.Skipf("no mount namespaces can be made here: %v", err)
}
