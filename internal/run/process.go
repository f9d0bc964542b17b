package run

import (
	"errors"
	"os"
	"os/exec"
	"runtime"
	"time"
)

// leftGrace is how long what the program leaves running may take to end.
const leftGrace = 10 * time.Second

// start runs the program to its end, and passes signals on to it meanwhile.
//
// At a terminal the program shares our process group: the terminal itself sends Ctrl-C to both, and a second one from
// here would make many programs give up at once; job control works. Anywhere else it has a group of its own, to which
// signals are passed: a launcher such as `go run`, which does not pass them on, and what it launched both get them.
func start(cmd *exec.Cmd, terminal bool, signals <-chan os.Signal) error {
	prepare(cmd, !terminal)
	started, ended := make(chan error, 1), make(chan error, 1)
	go func() {
		// The parent-death signal is sent when the thread that started the child ends (prctl(2)): keep it until then.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		if err := cmd.Start(); err != nil {
			started <- err
			return
		}
		started <- nil
		ended <- cmd.Wait()
	}()
	if err := <-started; err != nil {
		return err
	}
	for {
		select {
		case s := <-signals:
			if !terminal || !fromTerminal(s) {
				pass(cmd.Process, s, !terminal)
			}
		case err := <-ended:
			if !terminal {
				endGroup(cmd.Process.Pid, leftGrace, signals)
			}
			return err
		}
	}
}

// exitCode is the code that a shell would give.
func exitCode(err *exec.ExitError) int {
	if n, ok := signalNumber(err.ProcessState); ok {
		return 128 + n
	}
	return err.ExitCode()
}

// pass sends the signal on. A process that has ended meanwhile needs none.
func pass(p *os.Process, s os.Signal, group bool) {
	if group && signalGroup(p.Pid, s) {
		return
	}
	if err := p.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		_ = p.Kill() // a system without this signal
	}
}

// endGroup ends what the program left running: it would stay in the mesh's eyes a workload that nobody renews. It is asked
// first; a second signal to us, or the end of grace, kills it.
func endGroup(pid int, grace time.Duration, signals <-chan os.Signal) {
	if !askGroup(pid) {
		return
	}
	timer, tick := time.NewTimer(grace), time.NewTicker(20*time.Millisecond)
	defer timer.Stop()
	defer tick.Stop()
	for groupLives(pid) {
		select {
		case <-tick.C:
			continue
		case <-timer.C:
		case <-signals:
		}
		killGroup(pid)
		return
	}
}
