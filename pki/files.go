package pki

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
)

// maxFile bounds what is read of any file of this package: keys, certificates and bundles are far smaller.
const maxFile = 1 << 20

// readFile reads a file of at most maxFile bytes.
func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxFile {
		return nil, fmt.Errorf("%s is larger than %d bytes: it is no key, certificate or bundle", path, maxFile)
	}
	return data, nil
}

// readSecret reads a file that only its owner may read.
func readSecret(path string) ([]byte, error) {
	if err := checkSecretMode(path); err != nil {
		return nil, err
	}
	return readFile(path)
}

// checkSecretMode refuses a file that anyone but its owner may read or write. On Windows, where the mode says nothing
// about who may read, there is nothing to check.
func checkSecretMode(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is not a regular file", path)
	}
	if mode := info.Mode().Perm(); runtime.GOOS != "windows" && mode&0o077 != 0 {
		return fmt.Errorf("%s has mode %04o, which lets others at it; repair it with: chmod 600 %s", path, mode, quote(path))
	}
	return nil
}

// readHandedSecret is readSecret for a file that somebody may have handed to this process alone: what LoadCredential= of
// systemd.exec(5) makes is the process's own, or root's and let to the process by its group bits, which stand for an access
// list of one user then. Outside the folder that systemd names such bits count on a file of root's alone, and for another
// user than root: on a file of our own they are a group's. Others may have nothing, and the group may not write.
func readHandedSecret(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	root, own := owners(info)
	if groupMayRead(root, own, inCredentials(path)) && info.Mode().IsRegular() && info.Mode().Perm()&0o027 == 0 {
		return readFile(path)
	}
	return readSecret(path)
}

// groupMayRead tells whether the bits of a file's group may be those of an access list: by whose file it is, and whether it
// lies in the folder that systemd names.
func groupMayRead(root, own, named bool) bool { return root && !own || own && named }

// inCredentials tells whether a file lies in the folder of this service's credentials (systemd.exec(5), CREDENTIALS_DIRECTORY).
func inCredentials(path string) bool {
	dir := os.Getenv("CREDENTIALS_DIRECTORY")
	return filepath.IsAbs(dir) && filepath.Dir(path) == filepath.Clean(dir)
}

// writeFile replaces path in one step: a reader sees the old content or the new, and a crash leaves one of the two.
func writeFile(path string, data []byte, mode fs.FileMode) error {
	temp, err := writeTemp(path, data, mode)
	if err != nil {
		return err
	}
	if err := os.Rename(temp, path); err != nil {
		return errors.Join(err, os.Remove(temp))
	}
	return syncDir(filepath.Dir(path))
}

// createFile is writeFile for a path that must not exist yet: of two processes one fails with fs.ErrExist.
func createFile(path string, data []byte, mode fs.FileMode) error {
	temp, err := writeTemp(path, data, mode)
	if err != nil {
		return err
	}
	if err := errors.Join(os.Link(temp, path), os.Remove(temp)); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func writeTemp(path string, data []byte, mode fs.FileMode) (string, error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return "", err
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err != nil {
		return "", errors.Join(fmt.Errorf("write %s: %w", path, err), os.Remove(f.Name()))
	}
	return f.Name(), nil
}

// syncDir makes a rename last through a power cut. Windows cannot sync a directory and needs not.
func syncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
