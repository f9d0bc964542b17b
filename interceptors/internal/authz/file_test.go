package authz

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"example.com/rolecall/internal/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatalf("write: %v", err)
	}
}

// replace writes a file beside path and renames it over path.
func replace(t *testing.T, path, text string) {
	t.Helper()
	write(t, path+".new", text)
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatalf("rename: %v", err)
	}
}

func link(t *testing.T, target, path string) {
	t.Helper()
	if err := os.Symlink(target, path); err != nil {
		if runtime.GOOS == "windows" {
			t.Skipf("symbolic links need a privilege: %v", err)
		}
		t.Fatalf("link: %v", err)
	}
}

func TestAChangedFileIsApplied(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "roles.yaml")
	write(t, path, bindingsFor("first"))
	w := watchTest(t, path, time.Hour)
	write(t, path, bindingsFor("written-in-place"))
	w.wantInTheEnd("written-in-place")
	replace(t, path, bindingsFor("renamed-over"))
	w.want("renamed-over")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	w.want("error read bindings")
	write(t, path, bindingsFor("made-again"))
	w.wantInTheEnd("made-again")
}

func TestABadFileIsReportedAndTheNextGoodOneApplied(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "roles.yaml")
	write(t, path, bindingsFor("first"))
	w := watchTest(t, path, time.Hour)
	replace(t, path, "trustDomain: mesh.local\nbinding: []\n")
	w.want(`2:1: unknown key "binding"`)
	replace(t, path, "trustDomain: [\n")
	w.want("error " + path)
	replace(t, path, bindingsFor("first"))
	w.want("service/first")
}

func TestABadFileIsReportedAtEachInterval(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "roles.yaml")
	write(t, path, bindingsFor("first"))
	w := watchTest(t, path, 100*time.Millisecond)
	replace(t, path, "nonsense\n")
	for range 3 {
		w.want("1:1: a map of keys and values is needed here")
	}
}

func TestTheSameContentIsNotAppliedAgain(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "roles.yaml")
	write(t, path, bindingsFor("first"))
	w := watchTest(t, path, 60*time.Millisecond)
	for range 5 {
		replace(t, path, bindingsFor("first"))
	}
	replace(t, path, bindingsFor("second"))
	w.want("second") // and nothing before it
}

func TestASwappedConfigMapIsApplied(t *testing.T) {
	t.Parallel()
	// As the kubelet lays out a volume: roles.yaml -> ..data/roles.yaml, ..data -> a folder with a new name each time.
	dir := t.TempDir()
	folder := func(name, member string) {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, name, "roles.yaml"), bindingsFor(member))
	}
	folder("..2026_01", "first")
	link(t, "..2026_01", filepath.Join(dir, "..data"))
	link(t, filepath.Join("..data", "roles.yaml"), filepath.Join(dir, "roles.yaml"))
	w := watchTest(t, filepath.Join(dir, "roles.yaml"), time.Hour)
	folder("..2026_02", "second")
	link(t, "..2026_02", filepath.Join(dir, "..data_tmp"))
	if err := os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(dir, "..2026_01")); err != nil {
		t.Fatal(err)
	}
	w.want("second")
}

func TestAChangeWithoutAnEventIsAppliedAtTheInterval(t *testing.T) {
	t.Parallel()
	// The path is a link into a directory that nobody watches, so that its changes make no event.
	real := filepath.Join(t.TempDir(), "real.yaml")
	write(t, real, bindingsFor("first"))
	path := filepath.Join(t.TempDir(), "roles.yaml")
	link(t, real, path)
	w := watchTest(t, path, 100*time.Millisecond)
	write(t, real, bindingsFor("second"))
	w.wantInTheEnd("second")
}

func TestADirectoryThatIsMadeAgainIsWatchedAgain(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "mesh")
	path := filepath.Join(dir, "roles.yaml")
	create := func(member string) {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		write(t, path, bindingsFor(member))
	}
	create("first")
	w := watchTest(t, path, 200*time.Millisecond)
	if err := os.Rename(dir, dir+".old"); err != nil {
		t.Skipf("this system does not rename a watched directory: %v", err)
	}
	w.want("error read bindings")
	create("second")
	w.wantInTheEnd("second")
}

func TestAWatchDoesNotStartWithoutAValidFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	bad, large := filepath.Join(dir, "bad.yaml"), filepath.Join(dir, "large.yaml")
	write(t, bad, "bindings: []\n")
	write(t, large, bindingsFor("a")+strings.Repeat("# padding\n", MaxBindings/10))
	tests := []struct {
		name, path string
		interval   time.Duration
		want       string
	}{
		{"no file", filepath.Join(dir, "none.yaml"), time.Hour, "none.yaml"},
		{"bad file", bad, time.Hour, "trustDomain is missing"},
		{"large file", large, time.Hour, "larger than 4194304 bytes"},
		{"directory", dir, time.Hour, "not a regular file"},
		{"no interval", bad, 0, "must be positive"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			file, bindings, err := WatchFile(test.path, test.interval, func(*Bindings, error) { t.Error("applied") })
			if err == nil || file != nil || bindings != nil {
				t.Fatalf("file %v, bindings %v, error %v; want an error alone", file, bindings, err)
			}
			if !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %q, want one that says %q", err, test.want)
			}
		})
	}
}

func TestNothingIsAppliedAfterClose(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "roles.yaml")
	write(t, path, bindingsFor("first"))
	w := watchTest(t, path, time.Millisecond)
	for range 2 {
		if err := w.file.Close(); err != nil {
			t.Fatalf("close: %v", err)
		}
	}
	close(w.calls) // a later call would panic
	write(t, path, bindingsFor("second"))
}
