//go:build unix

package pki

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// tryLock takes the lock of f, or answers errLocked at once.
func tryLock(f *os.File) error {
	err := flock(f, unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return errLocked
	}
	return err
}

func unlockFile(f *os.File) { _ = flock(f, unix.LOCK_UN) } // closing the file lets go as well

func flock(f *os.File, how int) error {
	for {
		if err := unix.Flock(int(f.Fd()), how); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// owners tells whether a file is root's, and whether it is that of the user of this process; for root it is both.
func owners(info os.FileInfo) (root, own bool) {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && stat.Uid == 0, ok && int(stat.Uid) == os.Geteuid()
}

// checkOwner refuses to write as root into a directory of somebody else: the files would be root's, for its owner only, and
// the authority that runs as the directory's owner could not read them.
func checkOwner(dir string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || os.Geteuid() != 0 || stat.Uid == 0 {
		return nil
	}
	return fmt.Errorf("%s belongs to the user %d, who could not read what root writes there; run the command as that user: sudo -u '#%d'", dir, stat.Uid, stat.Uid)
}
