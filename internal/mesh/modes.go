package mesh

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"example.com/rolecall/pki"
)

// CheckModes returns one finding for the folder if others may look into it, and one for each key and secret in it that
// others may read, with the command that repairs it. The private folder protects them too; a copy of one would not.
func (d Dir) CheckModes() ([]string, error) {
	if runtime.GOOS == "windows" {
		return nil, nil
	}
	var findings []string
	err := filepath.WalkDir(d.path, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			if os.IsNotExist(err) && path != d.path {
				return nil // a log was rotated or a file replaced while we looked
			}
			return err
		}
		if secret := path == d.path || path == d.File() || path == d.DatabaseURL() || path == d.Users() || path == d.Session() || secretName(path); !secret || entry.Type()&fs.ModeSymlink != 0 {
			return nil
		}
		info, err := entry.Info()
		if err != nil {
			return nil //nolint:nilerr // gone meanwhile
		}
		if mode := info.Mode().Perm(); mode&0o077 != 0 {
			want := os.FileMode(0o600)
			if info.IsDir() {
				want = 0o700
			}
			findings = append(findings, fmt.Sprintf("%s has mode %04o and others may read it: chmod %o %s", path, mode, want, path))
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("check file modes: %w", err)
	}
	return findings, nil
}

// secretFolders are those below the authority's in which every file is its owner's alone: issuers and JWT signing keys with
// their encrypted keys, who got which certificate, and which join tickets were redeemed.
var secretFolders = map[string]bool{"issuers": true, "jwt": true, "record": true, "tickets": true}

// secretName tells by its name whether a file holds a key, or what only its owner is to know.
func secretName(path string) bool {
	name, folder := filepath.Base(path), filepath.Base(filepath.Dir(path))
	return strings.HasSuffix(name, ".key") || strings.HasSuffix(name, ".ticket") ||
		strings.Contains(name, "passphrase") || strings.Contains(name, "credential") ||
		secretFolders[folder] && filepath.Base(filepath.Dir(filepath.Dir(path))) == pki.AuthorityDir
}
