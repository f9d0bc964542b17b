package mesh

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"example.com/rolecall/pki"
)

// layoutVersion is the layout that this program writes. A folder with a newer one is refused: its files may mean
// something that this program does not know.
const layoutVersion = 1

// gitignore keeps keys out of anybody's repository, wherever the folder is made.
const gitignore = "# made by rolecall: holds private keys\n*\n"

// Dir is the folder of one mesh, by its absolute path. The zero Dir is not valid; Create and Open make one.
type Dir struct{ path string }

// Create opens the folder, making it and its parents first where they are missing. A folder that exists, has something
// in it and no layout version is refused, so that nobody's own files come under our care by a slip of --dir.
func Create(path string) (Dir, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return Dir{}, fmt.Errorf("find folder %s: %w", path, err)
	}
	d := Dir{path: abs}
	if err := os.MkdirAll(abs, 0o700); err != nil {
		return Dir{}, fmt.Errorf("make the mesh's folder: %w", err)
	}
	version, err := d.version()
	switch {
	case errors.Is(err, fs.ErrNotExist):
		entries, err := os.ReadDir(abs)
		if err != nil {
			return Dir{}, fmt.Errorf("read the mesh's folder: %w", err)
		}
		if len(entries) > 0 && !d.begun(entries) {
			return Dir{}, fmt.Errorf("folder %s is not empty and was not made by rolecall: name an empty or a new one with --dir", abs)
		}
	case err != nil:
		return Dir{}, err
	case version > layoutVersion:
		return Dir{}, newerError(abs, version)
	}
	// MkdirAll leaves an existing folder's mode alone, and the umask may have taken bits from a new one.
	if err := os.Chmod(abs, 0o700); err != nil {
		return Dir{}, fmt.Errorf("make the mesh's folder private: %w", err)
	}
	if err := WriteFile(d.file(".gitignore"), []byte(gitignore), 0o600); err != nil {
		return Dir{}, err
	}
	for _, sub := range []string{d.file("agent"), d.file("operators"), d.file("data"), d.file("logs")} {
		if err := os.MkdirAll(sub, 0o700); err != nil {
			return Dir{}, fmt.Errorf("make the mesh's folder: %w", err)
		}
	}
	// Last, so that a folder that was made half is made whole by the next Create, and never taken for a good one by Open.
	if err := WriteFile(d.file("layout"), []byte(strconv.Itoa(layoutVersion)+"\n"), 0o600); err != nil {
		return Dir{}, err
	}
	return d, nil
}

// begun tells whether the folder is one that another Create has begun: it is at it now, or was killed. It has our own
// .gitignore, or nothing but what goes before that.
func (d Dir) begun(entries []fs.DirEntry) bool {
	if data, err := os.ReadFile(d.file(".gitignore")); err == nil {
		return string(data) == gitignore
	}
	return !slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return !strings.HasPrefix(e.Name(), "..gitignore.") })
}

// Open opens a folder that Create made.
func Open(path string) (Dir, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return Dir{}, fmt.Errorf("find folder %s: %w", path, err)
	}
	d := Dir{path: abs}
	version, err := d.version()
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return Dir{}, fmt.Errorf("no mesh in %s: start one with: rolecall up --dir %s", abs, path)
	case err != nil:
		return Dir{}, err
	case version > layoutVersion:
		return Dir{}, newerError(abs, version)
	}
	return d, nil
}

func newerError(abs string, version int) error {
	return fmt.Errorf("folder %s has layout version %d and this rolecall knows %d: use the newer rolecall, or another --dir", abs, version, layoutVersion)
}

func (d Dir) version() (int, error) {
	data, err := os.ReadFile(d.file("layout"))
	if err != nil {
		return 0, fmt.Errorf("read layout version: %w", err)
	}
	version, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil || version < 1 {
		return 0, fmt.Errorf("%s holds %q and not a layout version: restore it, or name another folder with --dir", d.file("layout"), trim(string(data), 20))
	}
	return version, nil
}

func trim(s string, n int) string {
	if len(s) > n {
		return s[:n] + "..."
	}
	return s
}

func (d Dir) file(parts ...string) string {
	return filepath.Join(append([]string{d.path}, parts...)...)
}

// Path returns the folder's absolute path.
func (d Dir) Path() string { return d.path }

// File returns the path of mesh.json.
func (d Dir) File() string { return d.file("mesh.json") }

// Bundle returns the path of the trust domain's roots in PEM.
func (d Dir) Bundle() string { return d.file("bundle.pem") }

// Roles returns the path of roles.yaml.
func (d Dir) Roles() string { return d.file("roles.yaml") }

// Entries returns the path of the agent's registration entries.
func (d Dir) Entries() string { return d.file("agent", "entries.yaml") }

// AgentCredential returns the path of the agent's own certificate and key.
func (d Dir) AgentCredential() string { return d.file("agent", "agent.credential") }

// AgentBundle returns the path of the roots that the agent starts with, which it keeps up to date.
func (d Dir) AgentBundle() string { return d.file("agent", "bundle.pem") }

// Authority returns the folder of the online half of the certificate authority.
func (d Dir) Authority() string { return d.file(pki.AuthorityDir) }

// AuthorityBundle returns the path of the roots as the certificate authority keeps them.
func (d Dir) AuthorityBundle() string { return d.file(pki.AuthorityDir, "bundle.pem") }

// Root returns the folder of the root: in production, a machine without a network.
func (d Dir) Root() string { return d.file(pki.RootDir) }

// RootNext returns the folder of the new root, while the root is being replaced.
func (d Dir) RootNext() string { return d.file(pki.NextRootDir) }

// Data returns the folder of the services' databases.
func (d Dir) Data() string { return d.file("data") }

// OperatorCert returns the paths of an operator's certificate chain and key.
func (d Dir) OperatorCert(name string) (cert, key string) {
	return d.file("operators", name+".crt"), d.file("operators", name+".key")
}

// DatabaseURL returns the path of the file that hands a database's URL, which may hold a password, to the services.
func (d Dir) DatabaseURL() string { return d.file("data", "database.url") }

// Users returns the path of the file that keeps the passwords of the sample users.
func (d Dir) Users() string { return d.file("users.json") }

// Session returns the path of the file of whoever is logged in at this machine.
func (d Dir) Session() string { return d.file("session.json") }

// Log returns the path of a service's log.
func (d Dir) Log(service string) string { return d.file("logs", service+".log") }
