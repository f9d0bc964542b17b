//go:build unix

package e2e_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// process is a program that a test has started by itself, without `up`.
type process struct {
	cmd   *exec.Cmd
	log   *os.File      // both outputs
	ended chan struct{} // closed when it has ended
	err   error         // how; to be read once ended is closed
}

// startProcess starts a program that is asked to end at the end of the test, and prints what it said if the test failed.
func startProcess(t *testing.T, program string, env []string, args ...string) *process {
	t.Helper()
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	p := &process{cmd: exec.Command(program, args...), log: log, ended: make(chan struct{})}
	p.cmd.Env, p.cmd.Stdout, p.cmd.Stderr = append(os.Environ(), env...), log, log
	if err := startCommand(p.cmd); err != nil {
		t.Fatalf("start %q: %v", args, err)
	}
	go func() {
		defer close(p.ended)
		p.err = p.cmd.Wait()
	}()
	t.Cleanup(func() {
		if err := p.stop(); err != nil {
			t.Errorf("%q ended with %v", args, err)
		}
		if t.Failed() {
			t.Logf("%q said:\n%s", args, content(log))
		}
		_ = log.Close()
	})
	return p
}

// stop asks the process to end, unless it has ended, and returns how it did.
func (p *process) stop() error {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.ended:
	case <-time.After(upTimeout):
		_ = p.cmd.Process.Kill()
		<-p.ended
	}
	return p.err
}

// mustRun runs rolecall, which must succeed, and returns what it printed.
func mustRun(t *testing.T, args ...string) string {
	t.Helper()
	out, code := runRolecall(t, args...)
	if code != 0 {
		t.Fatalf("rolecall %s: exit code %d\n%s", strings.Join(args, " "), code, out)
	}
	return out
}

// mustFail runs rolecall, which must fail with exit code 1 and say each of the texts.
func mustFail(t *testing.T, says []string, args ...string) string {
	t.Helper()
	out, code := runRolecall(t, args...)
	if code != 1 {
		t.Errorf("rolecall %s: exit code %d, want 1\n%s", strings.Join(args, " "), code, out)
	}
	for _, text := range says {
		if !strings.Contains(out, text) {
			t.Errorf("rolecall %s: says nothing of %q:\n%s", strings.Join(args, " "), text, out)
		}
	}
	return out
}

// openssl runs openssl, which must succeed, and returns what it printed.
func openssl(t *testing.T, args ...string) string {
	t.Helper()
	program, err := exec.LookPath("openssl")
	if err != nil {
		lacking(t, "openssl is not installed")
	}
	out, err := exec.CommandContext(t.Context(), program, args...).CombinedOutput()
	if err != nil {
		t.Errorf("openssl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}
