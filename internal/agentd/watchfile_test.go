//go:build linux || darwin

package agentd

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spiffe/go-spiffe/v2/workloadapi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// used keeps what a watched file's content was, and what was logged.
type used struct {
	mu      sync.Mutex
	content string
	log     bytes.Buffer
}

func (u *used) Write(p []byte) (int, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.log.Write(p)
}

func (u *used) is(content string) func() bool {
	return func() bool {
		u.mu.Lock()
		defer u.mu.Unlock()
		return u.content == content
	}
}

func (u *used) logged(what string) int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return strings.Count(u.log.String(), what)
}

// watchedAt watches a file whose content is "bad" where it begins with that.
func watchedAt(t *testing.T, path string, change func(*watchedFile)) *used {
	t.Helper()
	u := &used{}
	w := &watchedFile{path: path, what: "sample", limit: 100, interval: time.Hour, log: slog.New(slog.NewTextHandler(u, nil)),
		use: func(data []byte) error {
			if strings.HasPrefix(string(data), "bad") {
				return errors.New(string(data))
			}
			u.mu.Lock()
			defer u.mu.Unlock()
			u.content = string(data)
			return nil
		}}
	if change != nil {
		change(w)
	}
	if err := w.read(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.watch(ctx)
	}()
	t.Cleanup(func() { cancel(); <-done })
	return u
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestAFileThatChangesInPlaceOrIsReplacedIsReadAgain(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "f")
	write(t, path, "one")
	u := watchedAt(t, path, nil)
	write(t, path, "two")
	eventually(t, "written in place", u.is("two"))
	write(t, path+".new", "three")
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
	eventually(t, "renamed over it", u.is("three"))
}

func TestAFileOfAKubernetesConfigMapIsReadAgainAfterTheSwap(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	swap := func(name, content string) {
		t.Helper()
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, name, "f"), content)
		if err := errors.Join(os.Symlink(name, filepath.Join(dir, "..data_tmp")),
			os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data"))); err != nil {
			t.Fatal(err)
		}
	}
	swap("..2026_1", "one")
	if err := os.Symlink(filepath.Join("..data", "f"), filepath.Join(dir, "f")); err != nil {
		t.Fatal(err)
	}
	u := watchedAt(t, filepath.Join(dir, "f"), nil)
	swap("..2026_2", "two")
	eventually(t, "swapped", u.is("two"))
}

func TestAttackAMissedFileEvent(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "f")
	write(t, path, "one")
	u := watchedAt(t, path, func(w *watchedFile) { w.deaf, w.interval = true, 20*time.Millisecond })
	write(t, path, "two")
	eventually(t, "read at the interval, without an event", u.is("two"))
}

func TestABadFileKeepsTheLastGoodOneAndIsReportedOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "f")
		write := func(content string) { put(t, path, []byte(content)) } // never half
		write("one")
		u := watchedAt(t, path, func(w *watchedFile) { w.deaf, w.interval = true, time.Second })
		// The file is read ten times before it is another one.
		reported := func(what string, lines int) {
			t.Helper()
			time.Sleep(10 * time.Second)
			if got := u.logged("cannot be used"); got != lines {
				t.Errorf("%s: %d errors were reported, want each of %d once", what, got, lines)
			}
			if !u.is("one")() {
				t.Errorf("%s: something bad was used", what)
			}
		}
		write("bad: first")
		reported("the first error", 1)
		write("bad: second")
		reported("another error", 2)
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		reported("no file", 3)
		write(strings.Repeat("x", 101))
		reported("a huge file", 4)
		write("one")
		reported("the good content again", 4)
		if u.logged("again what it was") != 1 {
			t.Error("the log does not say once that the good content is there again")
		}
		write("two")
		time.Sleep(10 * time.Second)
		if !u.is("two")() {
			t.Error("new content was not used")
		}
	})
}

func TestNewEntriesOfTheFileAreInForceWithoutARestart(t *testing.T) {
	t.Parallel()
	f := startFake(t)
	c := f.config(t)
	log := &used{}
	c.Log = slog.New(slog.NewTextHandler(log, nil))
	run(t, c)
	client, err := workloadapi.New(t.Context(), workloadapi.WithAddr("unix://"+c.Socket))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	if _, err := client.FetchX509SVID(t.Context()); status.Code(err) != codes.PermissionDenied {
		t.Fatalf("without a file: %v, want PermissionDenied", err)
	}
	is := func(path string) func() bool {
		return func() bool {
			svid, err := client.FetchX509SVID(t.Context())
			return err == nil && svid.ID.Path() == path
		}
	}
	entry := func(path string) string {
		return "entries: [{spiffeId: 'spiffe://mesh.local" + path + "', selectors: ['unix:uid:" + strconv.Itoa(os.Getuid()) + "']}]\n"
	}
	write(t, c.Entries, entry("/service/one"))
	eventually(t, "the file that was not there", is("/service/one"))
	write(t, c.Entries+".new", entry("/service/two"))
	if err := os.Rename(c.Entries+".new", c.Entries); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the file that took its place", is("/service/two"))
	write(t, c.Entries, "entries: [{spiffeId: 'spiffe://evil.local/x', selectors: ['unix:uid:"+strconv.Itoa(os.Getuid())+"']}]\n")
	eventually(t, "the bad file was read", func() bool { return log.logged("not of the trust domain") > 0 })
	write(t, c.Entries+".new", entry("/service/three"))
	if err := os.Rename(c.Entries+".new", c.Entries); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the good file after a bad one", is("/service/three"))
}
