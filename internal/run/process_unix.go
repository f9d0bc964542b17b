//go:build unix

package run

import (
	"os"
	"os/exec"
	"os/signal"
	"syscall"
)

// Signals returns the signals that are passed on to the program: those that ask it to end or to read its configuration
// again. From then on they no longer end this process; stop undoes that.
func Signals() (signals <-chan os.Signal, stop func()) {
	c := make(chan os.Signal, 8)
	signal.Notify(c, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	return c, func() { signal.Stop(c) }
}

func prepare(cmd *exec.Cmd, ownGroup bool) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: ownGroup}
	endWithParent(cmd.SysProcAttr)
}

// fromTerminal tells whether a terminal sends this signal to its whole foreground group.
func fromTerminal(s os.Signal) bool { return s == syscall.SIGINT }

func signalGroup(pid int, s os.Signal) bool {
	number, ok := s.(syscall.Signal)
	return ok && syscall.Kill(-pid, number) == nil
}

func askGroup(pid int) bool { return syscall.Kill(-pid, syscall.SIGTERM) == nil }
func killGroup(pid int)     { _ = syscall.Kill(-pid, syscall.SIGKILL) }

func signalNumber(s *os.ProcessState) (int, bool) {
	status, ok := s.Sys().(syscall.WaitStatus)
	if !ok || !status.Signaled() {
		return 0, false
	}
	return int(status.Signal()), true
}
