//go:build unix

package agent

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
)

// isRefused tells that nobody listens on a socket that is there.
func isRefused(err error) bool { return errors.Is(err, syscall.ECONNREFUSED) }

// ownedByUs tells whether a file belongs to the user that this process runs as.
func ownedByUs(info fs.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(stat.Uid) == os.Geteuid()
}
