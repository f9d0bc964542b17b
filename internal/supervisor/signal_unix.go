//go:build unix

package supervisor

import "syscall"

// terminate asks the process to end; what it started itself is its own business until it has.
func terminate(pid int) { _ = syscall.Kill(pid, syscall.SIGTERM) }

// killGroup ends whatever is left of the process's group.
func killGroup(pid int) { _ = syscall.Kill(-pid, syscall.SIGKILL) }
