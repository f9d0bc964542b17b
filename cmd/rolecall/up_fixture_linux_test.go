package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"example.com/rolecall/internal/mesh"
)

// meshUp is 'rolecall up' in processes of its own.
type meshUp struct {
	program string
	dir     string
	file    *mesh.File
	pid     int
	said    bytes.Buffer // only to be read after stop
	stop    func()
}

// bringUp brings a mesh up on free ports; it is stopped at the end of the test, or before by stop.
func bringUp(t *testing.T, args ...string) *meshUp {
	t.Helper()
	path, err := os.MkdirTemp("", "up") // t.TempDir makes paths that are too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(path) })
	return bringUpIn(t, filepath.Join(path, "mesh"), args...)
}

// bringUpIn brings a mesh up in a folder, which may have been used before.
func bringUpIn(t *testing.T, dir string, args ...string) *meshUp {
	t.Helper()
	m := &meshUp{dir: dir}
	var err error
	if m.program, err = program(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	up := exec.CommandContext(ctx, m.program, append([]string{"up", "--dir", m.dir, "--base-port", "0"}, args...)...)
	up.Stdout, up.Stderr, up.Cancel = &m.said, &m.said, func() error { return up.Process.Signal(syscall.SIGTERM) }
	up.WaitDelay = 30 * time.Second
	if err := up.Start(); err != nil {
		cancel()
		t.Fatal(err)
	}
	stopped := false
	m.pid, m.stop = up.Process.Pid, func() {
		if !stopped {
			stopped = true
			cancel()
			_ = up.Wait() // that it was told to stop is no matter here
		}
	}
	t.Cleanup(m.stop)
	began := time.Now()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for m.file == nil {
		if d, err := mesh.Open(m.dir); err == nil {
			m.file, _ = mesh.Read(d)
		}
		if time.Since(began) > time.Minute {
			m.stop()
			t.Fatalf("the mesh was not up within a minute:\n%s", &m.said)
		}
		<-tick.C
	}
	t.Logf("up after %s", time.Since(began).Round(time.Millisecond))
	return m
}

// run runs a command line of the program.
func (m *meshUp) run(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(t.Context(), m.program, args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}

// folder returns the mesh's folder.
func (m *meshUp) folder(t *testing.T) mesh.Dir {
	t.Helper()
	d, err := mesh.Open(m.dir)
	if err != nil {
		t.Fatal(err)
	}
	return d
}
