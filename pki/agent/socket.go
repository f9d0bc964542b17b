package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"time"
)

// MaxSocketPath is the longest path of a Unix socket in bytes that works on every system that the agent runs on.
const MaxSocketPath = 103 // sockaddr_un.sun_path holds 104 with its final zero byte on macOS, 108 on Linux

// CheckSocketPath refuses a path that is too long for a Unix socket.
func CheckSocketPath(path string) error {
	if len(path) > MaxSocketPath {
		return fmt.Errorf("socket path %s has %d bytes, a Unix socket can have %d at most; choose a shorter directory", path, len(path), MaxSocketPath)
	}
	return nil
}

// listen opens a Unix socket. Its directory is made, or must already be, accessible to its owner alone; shared leaves the
// directory to the operator and opens the socket to every user. A socket that nobody listens on any more is replaced.
func listen(path string, shared bool) (*net.UnixListener, error) {
	if err := CheckSocketPath(path); err != nil {
		return nil, err
	}
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("directory of socket: %w", err)
	}
	info, err := os.Stat(dir)
	if err != nil {
		return nil, fmt.Errorf("directory of socket: %w", err)
	}
	if mode := info.Mode().Perm(); !shared && mode&0o077 != 0 {
		return nil, fmt.Errorf("directory %s of the socket has mode %04o, which lets other users at it; repair it with: chmod 700 %s", dir, mode, dir)
	}
	if !shared && !ownedByUs(info) {
		return nil, fmt.Errorf("directory %s of the socket belongs to another user; choose one of your own", dir)
	}
	if err := removeStale(path); err != nil {
		return nil, err
	}
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	mode := fs.FileMode(0o600)
	if shared {
		mode = 0o666 // who may have what is decided by attestation
	}
	if err := os.Chmod(path, mode); err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	return listener, nil
}

// removeStale removes a socket that its listener left behind, and nothing else.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().Type() != fs.ModeSocket && runtime.GOOS != "windows" {
		return fmt.Errorf("%s is in the way: it is not a socket", path)
	}
	conn, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		_ = conn.Close()
		return fmt.Errorf("another agent listens on %s; stop it, or choose another directory", path)
	}
	if !isRefused(err) {
		return fmt.Errorf("socket %s is in the way: %w", path, err)
	}
	return os.Remove(path)
}
