package pki

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

const (
	lockName   = "lock" // in the authority's directory
	lockWait   = time.Minute
	lockLook   = 5 * time.Millisecond
	lockAtMost = 20 * time.Millisecond
)

// errLocked is what tryLock answers while another holder has the file.
var errLocked = errors.New("another process holds the lock")

// lockFile takes the lock of an open file against other processes, and against other openings of the file in this one.
// It waits a minute at most: whoever holds a lock of this package opens a key or two and writes a few small files. The system lets go of
// the lock when the process dies, so a crash leaves nothing behind.
func lockFile(f *os.File) (unlock func(), err error) {
	deadline, pause := time.Now().Add(lockWait), lockLook
	for {
		err := tryLock(f)
		if err == nil {
			return func() { unlockFile(f) }, nil
		}
		if !errors.Is(err, errLocked) || time.Now().After(deadline) {
			return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
		}
		time.Sleep(pause)
		pause = min(2*pause, lockAtMost)
	}
}

// locked runs change as the only writer of the directory, with the state as it is on disk, and reads the directory again
// when change is done. A change must leave files that can be read at every moment: readers take no lock.
func (s *Issuers) locked(change func() error) error {
	s.refresh.Lock()
	defer s.refresh.Unlock()
	_ = s.load() // opening keys takes long: better before others have to wait; what fails here fails again below
	return lockDir(s.dir, func() error {
		if err := s.load(); err != nil {
			return err
		}
		if err := change(); err != nil {
			return errors.Join(err, s.load()) // what was done before it failed is on disk, and must be seen
		}
		if err := s.load(); err != nil {
			return err
		}
		return s.numberContent()
	})
}

// lockDir runs do while this process holds the lock of an authority's directory.
func lockDir(dir string, do func() error) (err error) {
	if err := checkOwner(dir); err != nil {
		return fmt.Errorf("change the authority's directory: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("lock the authority's directory: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	unlock, err := lockFile(f)
	if err != nil {
		return fmt.Errorf("lock the authority's directory: %w", err)
	}
	defer unlock()
	return do()
}
