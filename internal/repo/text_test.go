package repo_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"
)

// A mark of something unfinished. Issues are where that is kept.
var unfinished = regexp.MustCompile(`\b(TO` + `DO|FIX` + `ME|XX` + `X)\b`)

// A path on the machine of whoever wrote it; a folder named after its user or by a root's home.
var homePath = regexp.MustCompile(`(^|[\s"'` + "`" + `=(:])/(home|Users|root|work)/[\w.]`)

func TestFilesHoldNothingUnfinishedAndNoPathOfOneMachine(t *testing.T) {
	t.Parallel()
	dir := root(t)
	for _, name := range files(t) {
		data, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(name)))
		if err != nil {
			t.Errorf("read %s: %v", name, err)
			continue
		}
		if !utf8.Valid(data) {
			t.Errorf("%s: not text; every file of the repository can be read", name)
			continue
		}
		for i, line := range strings.Split(string(data), "\n") {
			if found := unfinished.FindString(line); found != "" {
				t.Errorf("%s:%d: %s: finish it or file it", name, i+1, found)
			}
			if found := homePath.FindString(line); found != "" {
				t.Errorf("%s:%d: %q: a path that others do not have", name, i+1, strings.TrimSpace(found))
			}
		}
	}
}

func TestGoFilesAreOfAReadableSize(t *testing.T) {
	t.Parallel()
	const most = 400 // lines; 40 to 260 is what reads well
	for _, name := range files(t) {
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			continue
		}
		if lines := strings.Count(read(t, name), "\n"); lines > most {
			t.Errorf("%s has %d lines, more than %d: one file, one thing", name, lines, most)
		}
	}
}

func TestLockFileOfNodeNamesNoDownloadHost(t *testing.T) {
	t.Parallel()
	const name = "internal/e2e/clients/node/package-lock.json"
	for i, line := range strings.Split(read(t, name), "\n") {
		if strings.Contains(line, `"resolved"`) {
			t.Errorf("%s:%d: %s: keep the .npmrc beside it when installing", name, i+1, strings.TrimSpace(line))
		}
	}
}
