package mesh

import (
	"fmt"
	"os"
)

// WithLock runs f while no other process does so with the same lock file, which is made if it is not there, mode 0600.
func WithLock(path string, f func() error) error {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("open lock: %w", err)
	}
	defer file.Close()
	if err := waitLock(file, fileWait); err != nil {
		return fmt.Errorf("lock %s within %s: %w; end what holds it, or try again", path, fileWait, err)
	}
	return f()
}
