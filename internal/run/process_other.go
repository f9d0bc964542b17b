//go:build !unix

package run

import (
	"os"
	"os/exec"
	"os/signal"
)

// Signals returns the one signal that this system has for a program at a console.
func Signals() (signals <-chan os.Signal, stop func()) {
	c := make(chan os.Signal, 8)
	signal.Notify(c, os.Interrupt)
	return c, func() { signal.Stop(c) }
}

func prepare(*exec.Cmd, bool) {}

// fromTerminal is true: a console sends Ctrl-C to all of its processes.
func fromTerminal(os.Signal) bool { return true }

func signalGroup(int, os.Signal) bool           { return false }
func askGroup(int) bool                         { return false }
func groupLives(int) bool                       { return false }
func killGroup(int)                             {}
func signalNumber(*os.ProcessState) (int, bool) { return 0, false }
