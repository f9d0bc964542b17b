package pki_test

import (
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"example.com/rolecall/pki"
)

// template is the files of a certificate authority, or of a next root, that was made once for all tests: making one takes long
// on purpose, and ten times as long under the race detector.
type template struct {
	sync.Once
	files map[string]string
}

var templates sync.Map // of *template, by what was asked for

// once returns the files that make leaves in a directory, and makes them the first time.
func once(t *testing.T, key string, make func(dir string) error) map[string]string {
	t.Helper()
	one, _ := templates.LoadOrStore(key, &template{})
	made := one.(*template)
	made.Do(func() {
		dir := filepath.Join(t.TempDir(), pki.NextRootDir)
		if err := make(dir); err != nil {
			t.Errorf("%s: %v", key, err)
			return
		}
		made.files = filesOf(t, dir)
	})
	if made.files == nil {
		t.Fatalf("%s could not be made", key)
	}
	return made.files
}

// templateOf returns the files of a certificate authority that nobody has used.
func templateOf(t *testing.T, c pki.Config) map[string]string {
	t.Helper()
	key := fmt.Sprintf("CA of %s, issuers %s, leaves %s, passphrase %q, born %s", c.TrustDomain, c.IssuerLife, c.LeafLife, c.Passphrase, born(c.Now))
	return once(t, key, func(dir string) error {
		_, _, err := pki.OpenOrCreate(dir, c)
		return err
	})
}

// nextRootIn puts the root that is to come beside a certificate authority: another one than any that it has.
func nextRootIn(t *testing.T, dir string, o pki.RootOptions) *pki.Root {
	t.Helper()
	key := fmt.Sprintf("next root of %s, P-384 %v, born %s", o.TrustDomain, o.P384, born(o.Now))
	writeFiles(t, filepath.Join(dir, pki.NextRootDir), once(t, key, func(dir string) error {
		_, err := pki.CreateNextRoot(filepath.Dir(dir), nil, o)
		return err
	}))
	root, err := pki.CreateNextRoot(dir, nil, o)
	if err != nil {
		t.Fatal(err)
	}
	return root
}

// born is the moment of a clock that a test sets, and "now" for the wall clock.
func born(now func() time.Time) string {
	if now == nil {
		return "now"
	}
	return now().Format(time.RFC3339Nano)
}
