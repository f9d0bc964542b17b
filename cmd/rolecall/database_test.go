package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"example.com/rolecall/internal/cli"
)

func TestTheURLOfADatabaseIsReadFromAFile(t *testing.T) {
	t.Parallel()
	const url = "postgres://alice:secret@localhost/rolecall"
	for _, c := range []struct {
		name, flag, content, want, wrong string
	}{
		{name: "no file", flag: "postgres://h/d", want: "postgres://h/d"},
		{name: "a line", content: url, want: url},
		{name: "a line with its end", content: url + "\n", want: url},
		{name: "an empty file", content: "\n", wrong: "one line"},
		{name: "two lines", content: url + "\n" + url, wrong: "one line"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			file := ""
			if c.content != "" {
				file = filepath.Join(t.TempDir(), "url")
				if err := os.WriteFile(file, []byte(c.content), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			got, err := databaseURL(c.flag, file)
			if got != c.want || (err == nil) != (c.wrong == "") || err != nil && !strings.Contains(err.Error(), c.wrong) {
				t.Errorf("got %q, %v; want %q, an error with %q", got, err, c.want, c.wrong)
			}
		})
	}
}

func TestUpReadsTheURLOfItsDatabaseFirst(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "mesh")
	code, _, stderr := rolecall(t, "up", "--dir", dir, "--database-file", filepath.Join(t.TempDir(), "none"))
	if code == cli.ExitDone || !strings.Contains(stderr, "--database-file") {
		t.Errorf("code %d, %q; want to be told of --database-file", code, stderr)
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("the mesh's folder was made")
	}
}
