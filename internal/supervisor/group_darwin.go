package supervisor

import (
	"os/exec"
	"syscall"
)

// ownGroup gives the process a group of its own, so that Ctrl-C in a terminal reaches the supervisor alone. There is no
// parent-death signal here: Attach ends the process when its standard input does.
func ownGroup(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
}
