package agent

import (
	"os"
	"os/exec"
	"strconv"
	"testing"
)

// TestAttackAProcessThatWasGivenThePIDOfARegisteredOne has the kernel use a pid again for real, which takes root: it is told
// which pid it gave last.
func TestAttackAProcessThatWasGivenThePIDOfARegisteredOne(t *testing.T) {
	const last = "/proc/sys/kernel/ns_last_pid"
	if os.Getuid() != 0 {
		t.Skip("only root can choose the next pid")
	}
	if current, err := os.ReadFile(last); err != nil || os.WriteFile(last, current, 0) != nil {
		t.Skipf("the kernel does not let the next pid be chosen here: %v", err)
	}
	a := startAgent(t, nil)
	other, _ := start(t, "wait", "")
	pid := other.Process.Pid
	a.registerProcess(t, "/service/ledger", pid)
	other.end() // the registration stays

	choose := func(*exec.Cmd) {
		if err := os.WriteFile(last, []byte(strconv.Itoa(pid-1)), 0); err != nil {
			t.Fatal(err)
		}
	}
	for try := range 100 {
		heir, _ := start(t, "wait", "", choose)
		if heir.Process.Pid == pid {
			t.Logf("the pid was used again at try %d", try+1)
			if got, err := a.attest(t.Context(), peer{process: mustProcess(t, pid), uid: uint32(os.Geteuid())}, nil); err == nil {
				t.Errorf("the process with the pid of the registered one is %v", got)
			}
			heir.end()
			client, got := start(t, "fetch", a.config.Socket, choose)
			t.Logf("a process with pid %d asked", client.Process.Pid)
			if got != "PermissionDenied" {
				t.Errorf("the Workload API answered %q, want PermissionDenied", got)
			}
			return
		}
		heir.end()
	}
	t.Skip("other processes took the pid each time")
}

func mustProcess(t *testing.T, pid int) process {
	t.Helper()
	began, err := StartTime(pid)
	if err != nil {
		t.Fatal(err)
	}
	return process{pid, began}
}
