//go:build unix && !linux

package run

import "syscall"

// endWithParent does nothing: this system has no parent-death signal.
func endWithParent(*syscall.SysProcAttr) {}

func groupLives(pid int) bool { return syscall.Kill(-pid, 0) == nil }
