//go:build !unix

package mesh

import (
	"errors"
	"os"
)

// errUnsupported: the agent tells its callers by the peer credentials of a Unix socket, which this system does not have.
var errUnsupported = errors.New("running a mesh is supported on Linux and macOS only: use one of them, or WSL")

func tryLock(*os.File, bool) error { return errUnsupported }

// Alive tells whether a process of this number exists.
func Alive(int) bool { return false }
