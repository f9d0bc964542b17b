package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"sync"
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

// socket is a listener that removes its own socket when it is closed, and no other: by the time that an agent ends, another
// one may have replaced the socket that it listened on.
type socket struct {
	*net.UnixListener
	path string
	file fs.FileInfo
	once sync.Once
}

// Close ends listening. Only the first call does something: the inode that tells the sockets apart is taken for as long as
// this one listens, and anybody's afterwards. For the same reason the file goes first.
func (s *socket) Close() (err error) {
	s.once.Do(func() {
		if lies, failed := os.Lstat(s.path); failed == nil && os.SameFile(lies, s.file) {
			err = os.Remove(s.path)
		}
		err = errors.Join(err, s.UnixListener.Close())
	})
	return err
}

// listen opens a Unix socket. Its directory is made, or must already be, accessible to its owner alone; shared leaves the
// directory to the operator and opens the socket to every user. A socket that nobody listens on any more is replaced.
func listen(path string, shared bool) (*socket, error) {
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
	listener.SetUnlinkOnClose(false)
	mode := fs.FileMode(0o600)
	if shared {
		mode = 0o666 // who may have what is decided by attestation
	}
	if err := os.Chmod(path, mode); err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	file, err := os.Lstat(path)
	if err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	return &socket{UnixListener: listener, path: path, file: file}, nil
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
