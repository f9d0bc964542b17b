package supervisor_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"example.com/rolecall/internal/supervisor"
)

func TestALogNeverOutgrowsItsBound(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "ledger.log")
	log, err := supervisor.OpenLog(path, 100, 2)
	if err != nil {
		t.Fatal(err)
	}
	var writers sync.WaitGroup
	for w := range 4 {
		writers.Go(func() {
			for i := range 50 {
				fmt.Fprintf(log, "writer %d line %d\n", w, i)
			}
		})
	}
	writers.Wait()
	if _, err := log.Write([]byte(strings.Repeat("x", 1000))); err != nil {
		t.Errorf("a write longer than the bound: %v", err)
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(files) != 3 {
		t.Errorf("%d files, want the log and 2 older ones: %v", len(files), files)
	}
	for _, f := range files {
		info, err := f.Info()
		if err != nil {
			t.Fatal(err)
		}
		if info.Size() > 100 || info.Mode().Perm() != 0o600 {
			t.Errorf("%s has %d bytes and mode %o, want at most 100 and 600", f.Name(), info.Size(), info.Mode().Perm())
		}
	}
	if _, err := log.Write([]byte("late")); err == nil {
		t.Error("a write after Close was taken")
	}
}

func TestALogGoesOnWhereItEndedAndKnowsItsLastLines(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "ledger.log")
	for _, text := range []string{"one\n", "two\nthree\nfour\n"} {
		log, err := supervisor.OpenLog(path, 1000, 1)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprint(log, text)
		if text != "one\n" {
			if got := strings.Join(log.Tail(2), "|"); got != "three|four" {
				t.Errorf("tail %q, want three|four", got)
			}
		}
		log.Close()
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := string(data), "one\ntwo\nthree\nfour\n"; got != want {
		t.Errorf("log %q, want %q", got, want)
	}
}

func TestALogWhoseFolderIsGoneDropsWhatItCannotWrite(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "logs")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	log, err := supervisor.OpenLog(filepath.Join(dir, "ledger.log"), 10, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		if n, err := log.Write([]byte("12345678")); n != 8 || err != nil {
			t.Errorf("write: %d, %v; want it dropped without an error", n, err)
		}
	}
}
