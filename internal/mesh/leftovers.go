package mesh

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"example.com/rolecall/pki"
)

// RemoveLeftovers removes what a run that was killed had begun to write: half a root, and files that hold keys or a password
// and were about to get their names. Only who has the lock may call it, before anything is written. What other commands
// write without the lock is left alone.
func (d Dir) RemoveLeftovers() error {
	var errs []error
	for _, path := range []string{d.file(pki.RootDir), d.AgentCredential(), d.DatabaseURL(), d.Users()} {
		folder, prefix := filepath.Dir(path), "."+filepath.Base(path)+"."
		entries, err := os.ReadDir(folder)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
		for _, entry := range entries {
			if strings.HasPrefix(entry.Name(), prefix) {
				errs = append(errs, os.RemoveAll(filepath.Join(folder, entry.Name())))
			}
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("remove what a killed run left behind: %w", err)
	}
	return nil
}
