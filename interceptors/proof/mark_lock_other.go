//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd || windows)

package proof

import (
	"errors"
	"os"
)

// lockFile refuses: without a lock a second process could move the mark back.
func lockFile(string) (*os.File, error) {
	return nil, errors.New("files cannot be locked on this system: leave MarkFile empty, or use PostgreSQLWindow")
}
