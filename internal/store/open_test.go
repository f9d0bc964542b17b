package store_test

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	"example.com/rolecall/internal/store"
	"example.com/rolecall/internal/store/storetest"
)

func TestSeveralProcessesMayOpenAPostgresDatabaseAtOnce(t *testing.T) {
	t.Parallel()
	url := storetest.Postgres(t)
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() {
			db, err := store.Open(t.Context(), store.Config{Service: "counting", URL: url, Migrations: migrations})
			if err != nil {
				t.Errorf("open: %v", err)
				return
			}
			if err := db.Close(); err != nil {
				t.Errorf("close: %v", err)
			}
		})
	}
	wg.Wait()
}

func TestADatabaseOfANewerProgramIsRefused(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, url string) {
		open(t, url, fstest.MapFS{
			"0001_counters.sql": migrations["0001_counters.sql"],
			"0002_more.sql":     {Data: []byte("-- +goose Up\nCREATE TABLE more (name TEXT);\n")},
		})
		_, err := store.Open(t.Context(), store.Config{Service: "counting", URL: url, Migrations: migrations})
		if err == nil || !strings.Contains(err.Error(), "start a newer program") {
			t.Errorf("got %v, want it refused", err)
		}
	})
}

func TestOpenRefusesWhatItCannotOpen(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]store.Config{
		"a scheme it does not know": {Service: "counting", URL: "mysql://root@localhost/x"},
		"a service name with a dot": {Service: "a.b", Dir: t.TempDir()},
		"a folder":                  {Service: "counting", URL: t.TempDir()},
		"a server that is not there": {Service: "counting",
			URL: "postgres://user:hunter2@127.0.0.1:1/x?connect_timeout=2"},
	} {
		cfg.Migrations = migrations
		db, err := store.Open(t.Context(), cfg)
		if err == nil {
			t.Errorf("%s: opened", name)
			_ = db.Close()
		} else if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: the error tells the password: %v", name, err)
		}
	}
}

func TestAnSQLiteFileIsItsOwnersAlone(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "odd ?#%41 name", "test.db")
	db := open(t, path, migrations)
	if err := db.Write(t.Context(), func(tx *store.Tx) error {
		return tx.Insert("counters (name, value)", [][]any{{"n", 1}})
	}); err != nil {
		t.Fatalf("insert: %v", err)
	}
	files, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		info, err := f.Info()
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s %s", info.Mode(), f.Name())
		if os.PathSeparator == '/' && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %s", f.Name(), info.Mode())
		}
	}
}

func TestServicesShareAPostgresDatabaseAndNoSQLiteFile(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, url string) {
		open(t, url, migrations)
		db, err := store.Open(t.Context(), store.Config{Service: "other", URL: url, Migrations: migrations})
		if err == nil {
			defer db.Close()
		}
		if file := !strings.HasPrefix(url, "postgres://"); file && (err == nil || !strings.Contains(err.Error(), "a file of its own")) {
			t.Errorf("the file of another service: got %v, want it refused", err)
		} else if !file && err != nil {
			t.Errorf("a schema beside that of another service: %v", err)
		}
	})
}
