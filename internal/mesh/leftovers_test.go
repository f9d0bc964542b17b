package mesh_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"example.com/rolecall/internal/mesh"
)

func TestWhatAKilledRunLeftBehindIsRemovedAndNothingElse(t *testing.T) {
	t.Parallel()
	d, err := mesh.Create(filepath.Join(t.TempDir(), "mesh [1]")) // a name that is a pattern, for whoever matches by one
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"root/root.key", "agent/agent.credential", "data/database.url", "users.json", "data/.ledger.db.1", "operators/.alice.key.1", ".mine.1"} {
		touch(t, filepath.Join(d.Path(), name))
	}
	want := everything(t, d)
	for _, name := range []string{".root.123/root.key", ".root.4/passphrase", "agent/.agent.credential.567", "data/.database.url.89", ".users.json.10"} {
		touch(t, filepath.Join(d.Path(), name))
	}
	if err := d.RemoveLeftovers(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, everything(t, d)); diff != "" {
		t.Errorf("what is there (-want +got):\n%s", diff)
	}
}

func touch(t *testing.T, path string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
}

func everything(t *testing.T, d mesh.Dir) (paths []string) {
	t.Helper()
	err := filepath.WalkDir(d.Path(), func(path string, _ fs.DirEntry, err error) error {
		paths = append(paths, path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(paths)
	return paths
}
