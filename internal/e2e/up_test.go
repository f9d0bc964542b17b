//go:build unix

package e2e_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	ossignal "os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"example.com/rolecall/internal/mesh"
)

func TestSecondUpSaysWhoRunsTheMesh(t *testing.T) {
	t.Parallel()
	running := sharedMesh(t)
	out, code := running.rolecall(t, "up", "--base-port", "0")
	if code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	if want := fmt.Sprintf("is run by process %d", running.up.Process.Pid); !strings.Contains(out, want) {
		t.Errorf("it said nothing of %q:\n%s", want, out)
	}
}

func TestPortsInUseAreNamed(t *testing.T) {
	t.Parallel()
	var port int
	var taken net.Listener
	await(t, "a port is taken", func() error {
		ports, release, err := mesh.FreePorts(1)
		if err != nil {
			t.Fatal(err)
		}
		defer release()
		port = ports[0]
		// A process that is being started at this moment may hold the socket of the look a little longer.
		taken, err = net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		return err
	})
	defer taken.Close()
	dir := filepath.Join(t.TempDir(), "mesh")
	out, code := runRolecall(t, "up", "--dir", dir, "--base-port", strconv.Itoa(port-5)) // the ledger's offset
	if code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	if want := fmt.Sprintf("127.0.0.1:%d for ledger", port); !strings.Contains(out, want) {
		t.Errorf("it said nothing of %q:\n%s", want, out)
	}
	if us := strconv.Itoa(os.Getpid()); runtime.GOOS == "linux" && !strings.Contains(out, us) {
		t.Errorf("it did not name process %s, which has the port:\n%s", us, out)
	}
	if _, err := os.Stat(filepath.Join(dir, "mesh.json")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("mesh.json: %v, want none", err)
	}
}

func TestNothingIsLeftOfAMesh(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "mesh")
	t.Run("that was killed", func(t *testing.T) {
		m := startMeshIn(t, dir)
		kill(t, m.up.Process.Pid)
		<-m.ended
		m.expectNoProcess(t)
		for _, command := range []string{"demo", "status"} {
			if out, code := m.rolecall(t, command); code != 1 || !strings.Contains(out, "rolecall up") {
				t.Errorf("%s exits with %d, want 1 and the command that starts a mesh:\n%s", command, code, out)
			}
		}
	})
	t.Run("that was started again in the same folder and interrupted", func(t *testing.T) {
		m := startMeshIn(t, dir)
		if err := m.up.Process.Signal(syscall.SIGINT); err != nil {
			t.Fatal(err)
		}
		if err := m.wait(); err != nil {
			t.Errorf("rolecall up ended with %v, want exit code 0\n%s", err, content(m.log))
		}
		m.expectNoProcess(t)
		err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
			if err == nil && (entry.Type()&fs.ModeSocket != 0 || entry.Name() == "mesh.json") {
				t.Errorf("%s is still there", path)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, url := range []string{m.file.WorkloadAPI, m.file.Control} {
			if _, err := os.Lstat(strings.TrimPrefix(url, "unix://")); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("socket %s: %v, want none", url, err)
			}
		}
	})
	t.Run("whose terminal was closed", func(t *testing.T) {
		if ossignal.Ignored(syscall.SIGHUP) {
			t.Skip("the tests run under nohup, which rolecall up obeys")
		}
		m := startMeshIn(t, dir)
		if err := m.up.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		<-m.ended
		m.expectNoProcess(t)
	})
}

// expectNoProcess waits until all processes of a mesh have ended.
func (m *runningMesh) expectNoProcess(t *testing.T) {
	t.Helper()
	for name, pid := range m.pids() {
		gone(t, name, pid)
	}
	for _, s := range m.file.Services {
		if conn, err := net.Dial("tcp", s.Address); err == nil {
			_ = conn.Close()
			t.Errorf("somebody listens on %s, the address of %s", s.Address, s.Name)
		}
	}
}

// running tells whether a process runs: one that has ended and was not yet asked for its exit code does not.
func running(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return mesh.Alive(pid) // also where there is no /proc
	}
	_, state, _ := bytes.Cut(stat[bytes.LastIndexByte(stat, ')'):], []byte(" "))
	return !bytes.HasPrefix(state, []byte("Z"))
}
