package supervisor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"time"
)

// pipeGrace is how long a process's log is read on after it ended, if a descendant still has it open.
const pipeGrace = time.Second

// Task is one program under supervision. Safe for concurrent use.
type Task struct {
	program Program
	sup     *Supervisor

	readyOnce sync.Once
	ready     chan struct{} // closed when it was ready for the first time
	stopOnce  sync.Once
	stop      chan struct{} // closed by Stop
	killOnce  sync.Once
	kill      chan struct{} // closed when Stop ran out of patience
	stopped   chan struct{} // closed at the end

	mu       sync.Mutex
	pid      int
	restarts int
	lastErr  error
}

// PID returns the process number of the current process, or of the last one.
func (t *Task) PID() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.pid
}

// WaitReady waits until the program does its work for the first time. A program that ends before that is not started
// again: a wrong flag or file stays wrong. The error then says how it ended.
func (t *Task) WaitReady(ctx context.Context) error {
	select {
	case <-t.ready:
		return nil
	case <-t.stopped:
		t.mu.Lock()
		defer t.mu.Unlock()
		if t.lastErr != nil {
			return fmt.Errorf("%s: %w", t.program.Name, t.lastErr)
		}
		return fmt.Errorf("%s was stopped before it was ready", t.program.Name)
	case <-ctx.Done():
		return fmt.Errorf("wait for %s: %w", t.program.Name, context.Cause(ctx))
	}
}

// Stop asks the program to end, waits for at most grace, kills what is left of its process group, and returns when all of
// it has ended. The error says that it had to be killed. Stopping twice is no error.
func (t *Task) Stop(grace time.Duration) error {
	t.stopOnce.Do(func() { close(t.stop) })
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-t.stopped:
		return nil
	case <-timer.C:
	}
	t.killOnce.Do(func() { close(t.kill) })
	<-t.stopped
	return fmt.Errorf("%s did not end within %s and was killed", t.program.Name, grace)
}

func (t *Task) run() {
	var pauses backoff
	for {
		began := time.Now()
		err := t.once()
		if t.asked() {
			t.report(Event{State: Stopped})
			return
		}
		if err == nil {
			err = errors.New("ended by itself with exit code 0")
		}
		t.setErr(err)
		if !t.wasReady() {
			t.report(Event{State: Stopped, Err: err})
			return
		}
		pause := pauses.next(time.Since(began))
		t.report(Event{State: Waiting, Err: err, Pause: pause})
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-t.stop:
			timer.Stop()
			t.report(Event{State: Stopped})
			return
		}
		t.mu.Lock()
		t.restarts++
		t.mu.Unlock()
	}
}

// once runs one process from start to end and returns why it ended.
func (t *Task) once() error {
	cmd := exec.Command(t.program.Path, t.program.Args...)
	cmd.Env = append(environment(t.program.Env), gateVariable+"=1")
	cmd.Stdout, cmd.Stderr = t.program.Log, t.program.Log
	cmd.WaitDelay = pipeGrace
	ownGroup(cmd)
	gate, err := cmd.StdinPipe()
	if err != nil {
		return fmt.Errorf("start: %w", err)
	}
	if err := t.sup.start(cmd); err != nil {
		return fmt.Errorf("start: %w", err)
	}
	t.mu.Lock()
	t.pid = cmd.Process.Pid
	t.mu.Unlock()
	t.report(Event{State: Starting})

	ended := make(chan error, 1)
	go func() {
		err := cmd.Wait()
		// What a crashed process started itself must not live on beside its successor.
		killGroup(cmd.Process.Pid)
		ended <- err
	}()
	// The life context ends with the process, and with it what Admit started and Ready waits for.
	life, end := context.WithCancel(context.Background())
	follow := make(chan error, 1)
	go func() { follow <- t.follow(life, cmd.Process.Pid, gate) }()
	defer end()
	return t.watch(cmd.Process.Pid, end, ended, follow)
}

// follow admits the process, opens its gate and waits until it is ready.
func (t *Task) follow(life context.Context, pid int, gate io.WriteCloser) error {
	if t.program.Admit != nil {
		if err := t.program.Admit(life, pid); err != nil {
			return fmt.Errorf("admit: %w", err)
		}
	}
	if _, err := io.WriteString(gate, gateOpen); err != nil {
		return fmt.Errorf("open gate: %w", err)
	}
	if t.program.Ready != nil {
		if err := t.program.Ready(life); err != nil {
			return fmt.Errorf("get ready: %w", err)
		}
	}
	// Reported first: whoever waits for it goes on and may take the next Ready for one after a crash.
	t.report(Event{State: Ready})
	t.readyOnce.Do(func() { close(t.ready) })
	return nil
}

// watch waits for the end of the process, and makes it end when Stop is called or it cannot be admitted.
func (t *Task) watch(pid int, endLife func(), ended, follow <-chan error) error {
	stop, kill := t.stop, t.kill
	var failed error
	for {
		select {
		case err := <-ended:
			endLife()
			if follow != nil {
				<-follow // its error is only that the process ended
			}
			if failed != nil {
				return failed
			}
			return err
		case err := <-follow:
			follow = nil
			if err != nil {
				failed = err
				killGroup(pid)
			}
		case <-stop:
			stop = nil
			t.report(Event{State: Stopping})
			terminate(pid)
		case <-kill:
			kill = nil
			killGroup(pid)
		}
	}
}

func environment(env []string) []string {
	if env == nil {
		env = os.Environ()
	}
	return env[:len(env):len(env)]
}

func (t *Task) asked() bool {
	select {
	case <-t.stop:
		return true
	default:
		return false
	}
}

func (t *Task) wasReady() bool {
	select {
	case <-t.ready:
		return true
	default:
		return false
	}
}

func (t *Task) setErr(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lastErr = err
}

func (t *Task) report(e Event) {
	t.mu.Lock()
	e.Name, e.PID, e.Restarts = t.program.Name, t.pid, t.restarts
	t.mu.Unlock()
	t.sup.notify(e)
}
