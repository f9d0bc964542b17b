package pki

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

func TestOnlyOneAtATimeHoldsTheLock(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	counter := filepath.Join(dir, "counter")
	must(t, os.WriteFile(counter, nil, 0o600))
	var running sync.WaitGroup
	for range 50 {
		running.Go(func() {
			err := lockDir(dir, func() error {
				data, err := os.ReadFile(counter)
				if err != nil {
					return err
				}
				return os.WriteFile(counter, append(data, 'x'), 0o600)
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	running.Wait()
	data, err := os.ReadFile(counter)
	must(t, err)
	if len(data) != 50 {
		t.Errorf("%d of 50 read-modify-writes are left", len(data))
	}
}

func TestALockThatSomebodyHoldsIsNotTaken(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), lockName)
	open := func() *os.File {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		must(t, err)
		t.Cleanup(func() { _ = f.Close() })
		return f
	}
	first, second := open(), open()
	must(t, tryLock(first))
	if err := tryLock(second); !errors.Is(err, errLocked) {
		t.Errorf("tryLock while another holds it: %v, want errLocked", err)
	}
	must(t, first.Close()) // as when its process dies
	must(t, tryLock(second))
}
