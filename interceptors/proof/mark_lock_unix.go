//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package proof

import (
	"errors"
	"os"
	"syscall"
)

// lockFile opens a file, which it makes if there is none, and takes the exclusive lock on it, or answers errLocked at once.
// Closing the file gives the lock back.
func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	if err == nil {
		return f, nil
	}
	if errors.Is(err, syscall.EWOULDBLOCK) {
		err = errLocked
	} else {
		err = &os.PathError{Op: "flock", Path: path, Err: err}
	}
	return nil, errors.Join(err, f.Close())
}
