//go:build !unix

package supervisor

import "os"

// terminate ends the process: this system has no signal that asks.
func terminate(pid int) { killGroup(pid) }

// killGroup ends the process.
func killGroup(pid int) {
	if p, err := os.FindProcess(pid); err == nil {
		_ = p.Kill()
	}
}
