//go:build linux || darwin

package run

import (
	"context"
	"errors"
	"os"
	ossignal "os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"example.com/rolecall/internal/cli"
	"example.com/rolecall/internal/mesh"
	"example.com/rolecall/pki/agent"
)

func TestAProgramAndWhatItLaunchesHaveTheIdentity(t *testing.T) {
	t.Parallel()
	for _, child := range []string{"identity", "grandchild"} {
		t.Run(child, func(t *testing.T) {
			t.Parallel()
			r := startMesh(t)
			p := r.runAs(t, Config{ID: billing, DNSNames: []string{"billing.internal"}, Command: []string{"env", childVariable + "=" + child, os.Args[0]}})
			if err := p.wait(t); err != nil {
				t.Fatalf("%v: %s", err, p.said(t))
			}
			if got, want := p.said(t), billing+" [localhost billing.internal]\n"; got != want {
				t.Errorf("the program was told %q, want %q", got, want)
			}
		})
	}
}

func TestTheExitCodeIsThatOfTheProgram(t *testing.T) {
	t.Parallel()
	r := startMesh(t)
	notExecutable := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(notExecutable, []byte("#!/bin/sh\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name    string
		command []string
		want    int
		said    string
	}{
		{"success", []string{"true"}, 0, ""},
		{"failure", []string{"sh", "-c", "exit 7"}, 7, ""},
		{"ended by a signal", []string{"sh", "-c", "kill -KILL $$"}, 128 + 9, ""},
		{"not there", []string{"there-is-no-such-program"}, 127, "cannot run there-is-no-such-program"},
		{"not executable", []string{notExecutable}, 126, "cannot run " + notExecutable},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p := r.run(t, test.command...)
			err := p.wait(t)
			code := 0
			var coded *cli.CodeError
			if errors.As(err, &coded) {
				code = coded.Code
			} else if err != nil {
				t.Fatalf("got error %v, want an exit code", err)
			}
			if code != test.want || !strings.Contains(p.said(t), test.said) {
				t.Errorf("got code %d and %q, want %d and %q", code, p.said(t), test.want, test.said)
			}
		})
	}
}

func TestAProgramIsRegisteredAndListedForAsLongAsItRuns(t *testing.T) {
	t.Parallel()
	r := startMesh(t)
	p := r.run(t, "sh", "-c", "echo begins; cat")
	p.awaitSaid(t, "begins")
	f, err := mesh.Read(r.dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(f.Programs) != 1 || f.Programs[0].ID != billing || f.Programs[0].PID != os.Getpid() || f.Programs[0].Command[0] != "sh" {
		t.Errorf("mesh.json has programs %+v, want billing", f.Programs)
	}
	if got := registered(t, r); got != 1 {
		t.Errorf("%d registrations while it runs, want 1", got)
	}
	if err := p.stdin.Close(); err != nil {
		t.Fatal(err)
	}
	if err := p.wait(t); err != nil {
		t.Fatal(err)
	}
	if f, err = mesh.Read(r.dir); err != nil || len(f.Programs) != 0 {
		t.Errorf("mesh.json after its end: %+v, %v; want no programs", f.Programs, err)
	}
	until(t, "no longer registered", func() bool { return registered(t, r) == 0 })
}

func TestAProgramStaysInAMeshThatIsStartedAgain(t *testing.T) {
	t.Parallel()
	r := startMesh(t)
	p := r.run(t, "sh", "-c", "echo begins; cat")
	p.awaitSaid(t, "begins")
	r.stop()
	if err := mesh.Remove(r.dir); err != nil {
		t.Fatal(err)
	}
	r.serve(t)
	if err := mesh.Write(r.dir, r.file); err != nil {
		t.Fatal(err)
	}
	until(t, "registered again", func() bool { return registered(t, r) == 1 })
	until(t, "listed again", func() bool {
		f, err := mesh.Read(r.dir)
		return err == nil && len(f.Programs) == 1
	})
}

// registered counts the registrations of the agent.
func registered(t *testing.T, r *running) int {
	t.Helper()
	list, err := agent.List(t.Context(), r.config.Control)
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

func TestSignalsReachALauncherAndWhatItLaunched(t *testing.T) {
	t.Parallel()
	for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
		t.Run(signal.String(), func(t *testing.T) {
			t.Parallel()
			if ossignal.Ignored(signal) {
				t.Skip("the tests run under nohup or the like, which what they start obeys")
			}
			r := startMesh(t)
			// The launcher ends at once and tells its child nothing, as `go run` does with SIGTERM. A shell starts a command in
			// the background with SIGINT ignored, hence the foreground and the file.
			child := `trap 'echo child was asked; exit 0' INT TERM HUP; echo begins; while :; do read -r line || sleep 0.01; done`
			p := r.run(t, "sh", "-c", `sh -c "$0"; exit 5`, child)
			p.awaitSaid(t, "begins")
			p.signals <- signal
			err := p.wait(t)
			var coded *cli.CodeError
			if !errors.As(err, &coded) {
				t.Errorf("got %v, want an exit code", err)
			}
			p.awaitSaid(t, "child was asked")
		})
	}
}

func TestWhatAProgramLeavesRunningEndsWithIt(t *testing.T) {
	t.Parallel()
	r := startMesh(t)
	p := r.run(t, "sh", "-c", `sleep 1000 </dev/null >/dev/null 2>&1 & echo $$`)
	if err := p.wait(t); err != nil {
		t.Fatal(err)
	}
	group, err := strconv.Atoi(strings.TrimSpace(p.said(t)))
	if err != nil {
		t.Fatalf("the program said %q: %v", p.said(t), err)
	}
	if groupLives(group) {
		t.Error("what the program left running still runs")
	}
}

func TestRunRefusesWhatCannotBeMeant(t *testing.T) {
	t.Parallel()
	r := startMesh(t)
	empty := t.TempDir()
	for _, test := range []struct {
		name   string
		change func(*Config)
		usage  bool
		want   string
	}{
		{"an ID of another trust domain", func(c *Config) { c.ID = "spiffe://other/service/billing" }, true, "such as spiffe://mesh.local/service/NAME"},
		{"an ID without a path", func(c *Config) { c.ID = "spiffe://mesh.local" }, true, "such as spiffe://mesh.local/service/NAME"},
		{"something that is no ID", func(c *Config) { c.ID = "billing" }, true, "--id"},
		{"a DNS name that is none", func(c *Config) { c.DNSNames = []string{"https://billing"} }, true, "--dns"},
		{"no program", func(c *Config) { c.Command = nil }, true, "no program is named"},
		{"a folder without a mesh", func(c *Config) { c.Dir = empty }, false, "rolecall up"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c := Config{Dir: r.dir.Path(), ID: billing, Command: []string{"true"}, Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr}
			test.change(&c)
			err := Run(context.Background(), c)
			var usage *cli.UsageError
			if err == nil || errors.As(err, &usage) != test.usage || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want one with %q, of usage = %v", err, test.want, test.usage)
			}
		})
	}
}
