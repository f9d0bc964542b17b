//go:build unix

package e2e_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
)

// secrets are the passwords and tokens that tests have used.
var secrets struct {
	sync.Mutex
	all []string
}

// keepSecret notes what no log of the shared mesh may hold.
func keepSecret(secret string) {
	if len(secret) < 8 {
		panic("a secret that is so short is found by chance")
	}
	secrets.Lock()
	defer secrets.Unlock()
	secrets.all = append(secrets.all, secret)
}

// looksSecret finds tokens and password hashes that no test knows of: those that services gave each other.
var looksSecret = regexp.MustCompile(`eyJ[\w-]{8,}\.eyJ[\w-]{8,}|\$argon2id\$`)

// searchLogs tells which logs of a mesh hold a secret. It is asked when all tests of the shared mesh are over.
func searchLogs(dir string) error {
	logs, err := filepath.Glob(filepath.Join(dir, "logs", "*"))
	if err != nil || len(logs) == 0 {
		return errors.Join(fmt.Errorf("%s has no logs", dir), err)
	}
	secrets.Lock()
	defer secrets.Unlock()
	var found []error
	for _, log := range logs {
		data, err := os.ReadFile(log)
		if err != nil {
			return err
		}
		for number, line := range strings.Split(string(data), "\n") {
			for i, secret := range secrets.all {
				if strings.Contains(line, secret) {
					found = append(found, fmt.Errorf("%s:%d holds secret %d of %d that tests have used", log, number+1, i+1, len(secrets.all)))
				}
			}
			if looksSecret.MatchString(line) {
				found = append(found, fmt.Errorf("%s:%d holds what looks like a token or the hash of a password", log, number+1))
			}
		}
	}
	return errors.Join(found...)
}
