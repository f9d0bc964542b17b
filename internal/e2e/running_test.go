//go:build unix

package e2e_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"example.com/rolecall/internal/mesh"
)

const (
	// upTimeout is how long a mesh may take to come up, and to go down again.
	upTimeout = time.Minute
	// patience is how long a test waits for what should happen within a second, on a machine that is busy.
	patience = 20 * time.Second
)

// runningMesh is a mesh of real processes.
type runningMesh struct {
	program string // bin/rolecall
	dir     string // what --dir named
	file    *mesh.File

	up    *exec.Cmd
	log   *os.File      // what `up` prints
	ended chan struct{} // closed when `up` has ended
	err   error         // how; to be read once ended is closed
}

// startMesh brings a mesh up on free ports, with further arguments of `rolecall up`. The end of the test takes it down.
func startMesh(t *testing.T, args ...string) *runningMesh {
	t.Helper()
	return startMeshIn(t, filepath.Join(t.TempDir(), "mesh"), args...)
}

// startMeshIn is startMesh in a folder that may have had a mesh before.
func startMeshIn(t *testing.T, dir string, args ...string) *runningMesh {
	t.Helper()
	began := time.Now()
	running, err := bringUp(dir, args...)
	if running != nil {
		t.Cleanup(func() {
			if err := running.stop(); err != nil {
				t.Errorf("rolecall up, interrupted: %v\n%s", err, content(running.log))
			}
		})
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("the mesh was up after %s", time.Since(began).Round(time.Millisecond))
	return running
}

// bringUp starts `rolecall up` and waits until mesh.json says that everything is SERVING.
func bringUp(dir string, args ...string) (*runningMesh, error) {
	program, err := suite.build()
	if err != nil {
		return nil, err
	}
	log, err := os.CreateTemp(suite.dir, "up-*.log")
	if err != nil {
		return nil, fmt.Errorf("make the log of up: %w", err)
	}
	running := &runningMesh{program: program, dir: dir, log: log, ended: make(chan struct{})}
	running.up = exec.Command(program, append([]string{"up", "--dir", dir, "--base-port", "0"}, args...)...)
	running.up.Stdout, running.up.Stderr = log, log
	if err := startCommand(running.up); err != nil {
		return nil, fmt.Errorf("rolecall up: %w", err)
	}
	go func() {
		defer close(running.ended)
		running.err = running.up.Wait()
	}()
	return running, running.awaitFile()
}

// awaitFile waits for mesh.json.
func (m *runningMesh) awaitFile() error {
	timeout := time.NewTimer(upTimeout)
	defer timeout.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		var err error
		if m.file, err = m.readFile(); err == nil && m.file.PID == m.up.Process.Pid {
			return nil // any other was left by one that was killed
		}
		select {
		case <-m.ended:
			return fmt.Errorf("rolecall up ended: %v\n%s", m.err, content(m.log))
		case <-timeout.C:
			return fmt.Errorf("rolecall up was not up after %s: %v\n%s", upTimeout, err, content(m.log))
		case <-tick.C:
		}
	}
}

// readFile reads mesh.json as it is now.
func (m *runningMesh) readFile() (*mesh.File, error) {
	d, err := mesh.Open(m.dir)
	if err != nil {
		return nil, err
	}
	return mesh.Read(d)
}

// stop does what Ctrl-C does, unless `up` has ended already. The error says how else it ended than with exit code 0.
func (m *runningMesh) stop() error {
	select {
	case <-m.ended:
		return nil // the test that ended it has looked at how
	default:
	}
	if err := m.up.Process.Signal(syscall.SIGINT); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return m.wait()
}

// wait waits for the end of `up`.
func (m *runningMesh) wait() error {
	select {
	case <-m.ended:
		return m.err
	case <-time.After(upTimeout):
		_ = m.up.Process.Kill()
		return fmt.Errorf("rolecall up did not end within %s", upTimeout)
	}
}

// service returns what mesh.json said of a service when the mesh came up.
func (m *runningMesh) service(t *testing.T, name string) mesh.Service {
	t.Helper()
	s, ok := m.file.Service(name)
	if !ok {
		t.Fatalf("mesh.json names no %s", name)
	}
	return s
}

// pids returns the process numbers of everything that `up` started, by name.
func (m *runningMesh) pids() map[string]int {
	pids := map[string]int{"agent": m.file.Agent.PID}
	for _, s := range m.file.Services {
		pids[s.Name] = s.PID
	}
	return pids
}

// rolecall runs another command on the folder of the mesh, and returns what it printed and its exit code.
func (m *runningMesh) rolecall(t *testing.T, command string, args ...string) (string, int) {
	t.Helper()
	return runRolecall(t, append([]string{command, "--dir", m.dir}, args...)...)
}

// runRolecall runs rolecall and returns what it printed, on both outputs, and its exit code.
func runRolecall(t *testing.T, args ...string) (string, int) {
	t.Helper()
	return runRolecallWith(t, nil, args...)
}

// runRolecallWith is runRolecall with more in its environment.
func runRolecallWith(t *testing.T, env []string, args ...string) (string, int) {
	t.Helper()
	program := buildRolecall(t) // which may take longer than any command
	ctx, cancel := context.WithTimeout(t.Context(), upTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = append(os.Environ(), env...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := startCommand(cmd); err != nil {
		t.Fatalf("start %q: %v", args, err)
	}
	err := cmd.Wait()
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || ctx.Err() != nil) {
		t.Fatalf("rolecall %q: %v\n%s", args, err, out.String())
	}
	return out.String(), cmd.ProcessState.ExitCode()
}

// await tries until check returns nil, logs how long that took, and fails the test after patience.
func await(t *testing.T, what string, check func() error) time.Duration {
	t.Helper()
	return awaitFor(t, what, patience, check)
}

func awaitFor(t *testing.T, what string, within time.Duration, check func() error) time.Duration {
	t.Helper()
	return awaitEvery(t, 10*time.Millisecond, what, within, check)
}

func awaitEvery(t *testing.T, every time.Duration, what string, within time.Duration, check func() error) time.Duration {
	t.Helper()
	began := time.Now()
	timeout := time.NewTimer(within)
	defer timeout.Stop()
	tick := time.NewTicker(every)
	defer tick.Stop()
	for late := false; ; {
		err := check()
		if err == nil {
			took := time.Since(began)
			t.Logf("%s: after %s", what, took.Round(time.Millisecond))
			return took
		}
		if late {
			t.Fatalf("%s: not within %s: %v", what, within, err)
		}
		select {
		case <-timeout.C:
			late = true // a check that began in time may have ended late: the last one begins now
		case <-tick.C:
		}
	}
}

func content(f *os.File) string {
	data, err := os.ReadFile(f.Name())
	if err != nil {
		return err.Error()
	}
	return string(data)
}
