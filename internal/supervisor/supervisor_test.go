//go:build unix

package supervisor_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"example.com/rolecall/internal/leaktest"
	"example.com/rolecall/internal/supervisor"
)

// patience bounds every wait of these tests.
const patience = 10 * time.Second

// The test binary is also the program that is supervised: ROLE says what it does.
func TestMain(m *testing.M) {
	if role := os.Getenv("ROLE"); role != "" {
		os.Exit(play(role))
	}
	leaktest.Main(m)
}

func play(role string) int {
	if role == "parent" {
		return playParent()
	}
	ctx, err := supervisor.Attach(context.Background())
	if err != nil {
		fmt.Println("attach:", err)
		return 3
	}
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM)
	defer stop()
	fmt.Println("pid", os.Getpid())
	switch role {
	case "serve":
		<-ctx.Done()
		return 0
	case "fail":
		fmt.Println("cannot open the thing")
		return 4
	case "stubborn":
		signal.Ignore(syscall.SIGTERM)
		select {}
	case "family":
		child := exec.Command(os.Args[0])
		child.Env = append(os.Environ(), "ROLE=stubborn")
		child.Stdout = os.Stdout
		if err := child.Start(); err != nil {
			return 5
		}
		fmt.Println("child", child.Process.Pid)
		<-ctx.Done()
		return 0
	}
	return 9
}

// playParent supervises one program until it is killed.
func playParent() int {
	s := supervisor.New(func(supervisor.Event) {})
	task := s.Start(supervisor.Program{Name: "child", Path: os.Args[0], Env: append(os.Environ(), "ROLE=serve"), Log: io.Discard})
	if err := task.WaitReady(context.Background()); err != nil {
		return 6
	}
	fmt.Println("child", task.PID())
	select {}
}

type recorder struct {
	mu     sync.Mutex
	events []supervisor.Event
	more   chan struct{}
}

func newRecorder() *recorder { return &recorder{more: make(chan struct{}, 1)} }

func (r *recorder) notify(e supervisor.Event) {
	r.mu.Lock()
	r.events = append(r.events, e)
	r.mu.Unlock()
	select {
	case r.more <- struct{}{}:
	default:
	}
}

// wait returns the first event at or after from that matches, and the index after it.
func (r *recorder) wait(t *testing.T, from int, what string, match func(supervisor.Event) bool) (supervisor.Event, int) {
	t.Helper()
	began := time.Now()
	deadline := time.After(patience)
	for {
		r.mu.Lock()
		for i := from; i < len(r.events); i++ {
			if match(r.events[i]) {
				e := r.events[i]
				r.mu.Unlock()
				t.Logf("%s after %s", what, time.Since(began).Round(time.Millisecond))
				return e, i + 1
			}
		}
		r.mu.Unlock()
		select {
		case <-r.more:
		case <-deadline:
			r.mu.Lock()
			defer r.mu.Unlock()
			t.Fatalf("no %s within %s; events: %v", what, patience, r.events)
		}
	}
}

func program(role string, log io.Writer) supervisor.Program {
	return supervisor.Program{Name: role, Path: os.Args[0], Env: append(os.Environ(), "ROLE="+role), Log: log}
}

func is(state supervisor.State) func(supervisor.Event) bool {
	return func(e supervisor.Event) bool { return e.State == state }
}

func alive(pid int) bool {
	// A zombie still takes signals: what counts is whether anything runs.
	if stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat"); err == nil {
		_, rest, _ := strings.Cut(string(stat), ") ")
		return !strings.HasPrefix(rest, "Z")
	}
	return syscall.Kill(pid, 0) == nil && !isLinux()
}

func isLinux() bool { _, err := os.Stat("/proc/self"); return err == nil }

func waitGone(t *testing.T, pid int) {
	t.Helper()
	began := time.Now()
	waitFor(t, fmt.Sprintf("process %d to be gone", pid), func() bool { return !alive(pid) })
	t.Logf("process %d gone after %s", pid, time.Since(began).Round(time.Millisecond))
}

func waitFor(t *testing.T, what string, done func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(patience)
	for !done() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited %s for %s", patience, what)
		}
	}
}

func newLog(t *testing.T) *supervisor.Log {
	t.Helper()
	log, err := supervisor.OpenLog(filepath.Join(t.TempDir(), "log"), 1<<20, 1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { log.Close() })
	return log
}

func wordAfter(t *testing.T, log *supervisor.Log, word string) int {
	t.Helper()
	var n int
	waitFor(t, "a line with "+word, func() bool {
		for _, line := range log.Tail(100) {
			if rest, ok := strings.CutPrefix(line, word+" "); ok {
				n, _ = strconv.Atoi(rest)
				return true
			}
		}
		return false
	})
	return n
}

func TestAProgramThatIsKilledIsStartedAgainAndAdmittedAgain(t *testing.T) {
	t.Parallel()
	rec := newRecorder()
	s := supervisor.New(rec.notify)
	var mu sync.Mutex
	var admitted []int
	p := program("serve", newLog(t))
	p.Admit = func(_ context.Context, pid int) error {
		mu.Lock()
		defer mu.Unlock()
		admitted = append(admitted, pid)
		return nil
	}
	task := s.Start(p)
	first, next := rec.wait(t, 0, "first ready", is(supervisor.Ready))
	if err := syscall.Kill(first.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	waiting, next := rec.wait(t, next, "waiting", is(supervisor.Waiting))
	if waiting.Err == nil || waiting.Pause <= 0 {
		t.Errorf("waiting event %+v: want an error and a pause", waiting)
	}
	second, _ := rec.wait(t, next, "second ready", is(supervisor.Ready))
	if second.PID == first.PID || second.Restarts != 1 {
		t.Errorf("second start: pid %d after %d, restarts %d, want another pid and 1", second.PID, first.PID, second.Restarts)
	}
	if err := task.Stop(patience); err != nil {
		t.Errorf("stop: %v", err)
	}
	s.Close()
	mu.Lock()
	defer mu.Unlock()
	if len(admitted) != 2 || admitted[0] != first.PID || admitted[1] != second.PID {
		t.Errorf("admitted %v, want %d and %d", admitted, first.PID, second.PID)
	}
}

func TestAProgramThatFailsBeforeItWasEverReadyIsNotStartedAgain(t *testing.T) {
	t.Parallel()
	rec := newRecorder()
	s := supervisor.New(rec.notify)
	log := newLog(t)
	p := program("fail", log)
	p.Ready = func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	task := s.Start(p)
	err := task.WaitReady(context.Background())
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 4 {
		t.Errorf("WaitReady: %v, want exit code 4", err)
	}
	if got := strings.Join(log.Tail(1), ""); got != "cannot open the thing" {
		t.Errorf("last line of the log %q", got)
	}
	if err := task.Stop(patience); err != nil {
		t.Errorf("stop after the end: %v", err)
	}
	s.Close()
}

func TestAProcessThatIsNotAdmittedNeverPassesItsGate(t *testing.T) {
	t.Parallel()
	s := supervisor.New(func(supervisor.Event) {})
	log := newLog(t)
	p := program("serve", log)
	p.Admit = func(context.Context, int) error { return errors.New("no such identity") }
	task := s.Start(p)
	if err := task.WaitReady(context.Background()); err == nil || !strings.Contains(err.Error(), "no such identity") {
		t.Errorf("WaitReady: %v, want why it was not admitted", err)
	}
	waitGone(t, task.PID())
	if lines := log.Tail(10); len(lines) != 0 {
		t.Errorf("it wrote %q", lines)
	}
	s.Close()
}

func TestAProgramThatDoesNotListenIsKilledAfterItsGrace(t *testing.T) {
	t.Parallel()
	s := supervisor.New(func(supervisor.Event) {})
	log := newLog(t)
	task := s.Start(program("stubborn", log))
	pid := wordAfter(t, log, "pid")
	waitFor(t, "SIGTERM to be ignored", func() bool { return ignoresTerm(pid) })
	if err := task.Stop(50 * time.Millisecond); err == nil || !strings.Contains(err.Error(), "was killed") {
		t.Errorf("stop: %v, want that it was killed", err)
	}
	waitGone(t, pid)
	s.Close()
}

func ignoresTerm(pid int) bool {
	status, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return true
	}
	_, rest, _ := strings.Cut(string(status), "SigIgn:\t")
	mask, err := strconv.ParseUint(rest[:16], 16, 64)
	return err == nil && mask&(1<<(syscall.SIGTERM-1)) != 0
}

func TestWhatAProgramStartedIsKilledWithIt(t *testing.T) {
	t.Parallel()
	rec := newRecorder()
	s := supervisor.New(rec.notify)
	log := newLog(t)
	task := s.Start(program("family", log))
	grandchild := wordAfter(t, log, "child")
	if err := task.Stop(patience); err != nil {
		t.Errorf("stop: %v", err)
	}
	waitGone(t, grandchild)
	s.Close()
}

func TestASupervisorThatIsKilledLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	log := newLog(t)
	parent := exec.Command(os.Args[0])
	parent.Env = append(os.Environ(), "ROLE=parent")
	parent.Stdout = log
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	child := wordAfter(t, log, "child")
	if !alive(child) {
		t.Fatalf("child %d does not run", child)
	}
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := parent.Wait(); err == nil {
		t.Error("the parent ended well, and was to be killed")
	}
	waitGone(t, child)
}

func TestWhoeverWaitedForAProgramFindsItReportedAsReady(t *testing.T) {
	t.Parallel()
	rec := newRecorder()
	s := supervisor.New(func(e supervisor.Event) {
		if e.State == supervisor.Ready {
			runtime.Gosched() // the goroutine that waits had better not get ahead
		}
		rec.notify(e)
	})
	task := s.Start(program("serve", newLog(t)))
	if err := task.WaitReady(t.Context()); err != nil {
		t.Fatal(err)
	}
	rec.mu.Lock()
	last := rec.events[len(rec.events)-1]
	rec.mu.Unlock()
	if last.State != supervisor.Ready {
		t.Errorf("the last event before WaitReady returned is %s, want ready", last.State)
	}
	if err := task.Stop(patience); err != nil {
		t.Error(err)
	}
	s.Close()
}
