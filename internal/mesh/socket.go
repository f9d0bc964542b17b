package mesh

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
)

// maxSocketPath is the longest path of a Unix socket that every system takes: sun_path has 104 bytes on macOS and the
// BSDs, 108 on Linux, one of them for the NUL.
const maxSocketPath = 103

// Sockets returns where the agent's two sockets go: the Workload API and the control socket. They lie in the mesh's
// folder, or, if that makes too long a path, in a private folder of the user's runtime directory, which is made.
func (d Dir) Sockets() (workloadAPI, control string, err error) {
	workloadAPI, control = d.file("agent.sock"), d.file("control.sock")
	if len(control) <= maxSocketPath {
		return workloadAPI, control, nil
	}
	runtimeDir, err := userRuntimeDir()
	if err != nil {
		return "", "", err
	}
	sum := sha256.Sum256([]byte(d.path))
	private := filepath.Join(runtimeDir, "rolecall-"+hex.EncodeToString(sum[:6]))
	workloadAPI, control = filepath.Join(private, "agent.sock"), filepath.Join(private, "control.sock")
	if len(control) > maxSocketPath {
		return "", "", fmt.Errorf("socket path %s has %d bytes and %d is the most: set XDG_RUNTIME_DIR to a shorter folder, or --dir", control, len(control), maxSocketPath)
	}
	if err := makePrivate(private); err != nil {
		return "", "", err
	}
	return workloadAPI, control, nil
}

// RemoveSockets removes what Sockets names, and the private folder if one was made.
func (d Dir) RemoveSockets() error {
	workloadAPI, control, err := d.Sockets()
	if err != nil {
		return err
	}
	var errs []error
	for _, path := range []string{workloadAPI, control} {
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, fmt.Errorf("remove socket: %w", err))
		}
	}
	if folder := filepath.Dir(control); folder != d.path {
		if err := os.Remove(folder); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, fmt.Errorf("remove folder of sockets: %w", err))
		}
	}
	return errors.Join(errs...)
}

func userRuntimeDir() (string, error) {
	if dir := os.Getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(dir) {
		return dir, nil
	}
	uid := strconv.Itoa(os.Getuid())
	if dir := "/run/user/" + uid; isDir(dir) {
		return dir, nil
	}
	// Anybody may make a folder in the temporary directory: makePrivate refuses one that is not ours.
	dir := filepath.Join(os.TempDir(), "rolecall-"+uid)
	return dir, makePrivate(dir)
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// makePrivate makes a folder of mode 0700, or accepts one that is a folder, ours, and closed to others.
func makePrivate(path string) error {
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("make folder for sockets: %w", err)
	}
	info, err := os.Lstat(path)
	if err != nil {
		return fmt.Errorf("make folder for sockets: %w", err)
	}
	if !info.IsDir() || info.Mode().Perm()&0o077 != 0 || !ownedByUs(info) {
		return fmt.Errorf("folder %s for sockets must belong to this user with mode 0700: remove it, or set XDG_RUNTIME_DIR", path)
	}
	return nil
}
