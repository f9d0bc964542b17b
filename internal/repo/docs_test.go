package repo_test

import (
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	mdLink    = regexp.MustCompile(`\[[^\]]*\]\(([^)\s]+)\)`)
	mdHeading = regexp.MustCompile("(?m)^#{1,6} +(.+)$")
	mdFence   = regexp.MustCompile("(?ms)^```(\\w*)\n(.*?)^```$")
)

// anchors returns the names that links into a Markdown file may have after the '#', made the way most viewers make them.
func anchors(text string) map[string]bool {
	found := map[string]bool{}
	drop := regexp.MustCompile(`[^\p{L}\p{N} _-]`)
	for _, m := range mdHeading.FindAllStringSubmatch(mdFence.ReplaceAllString(text, ""), -1) {
		name := strings.ToLower(drop.ReplaceAllString(m[1], ""))
		found[strings.ReplaceAll(name, " ", "-")] = true
	}
	return found
}

func TestLinksInDocumentsLeadSomewhere(t *testing.T) {
	t.Parallel()
	dir, links := root(t), 0
	for _, name := range files(t) {
		if path.Ext(name) != ".md" {
			continue
		}
		text := mdFence.ReplaceAllString(read(t, name), "")
		for _, m := range mdLink.FindAllStringSubmatch(text, -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			links++
			file, anchor, _ := strings.Cut(m[1], "#")
			target := name
			if file != "" {
				target = path.Join(path.Dir(name), file)
			}
			if _, err := os.Stat(filepath.Join(dir, filepath.FromSlash(target))); err != nil {
				t.Errorf("%s: link to %s: %v", name, m[1], err)
				continue
			}
			if anchor != "" && !anchors(read(t, target))[anchor] {
				t.Errorf("%s: link to %s: %s has no such heading", name, m[1], target)
			}
		}
	}
	if links == 0 {
		t.Error("found no link in any document")
	}
}

func TestReadmeBeginsWithTheTwoCommands(t *testing.T) {
	t.Parallel()
	var commands []string
	for _, m := range mdFence.FindAllStringSubmatch(read(t, "README.md"), -1) {
		if m[1] != "sh" {
			continue
		}
		for line := range strings.Lines(m[2]) {
			commands = append(commands, strings.TrimSpace(strings.SplitN(line, "#", 2)[0]))
		}
	}
	if len(commands) < 2 || commands[0] != "make up" || commands[1] != "make test" {
		t.Errorf("the first commands of README.md are %q, want make up and make test", commands[:min(2, len(commands))])
	}
}

func TestGoCodeInDocumentsIsCodeThatCompiles(t *testing.T) {
	t.Parallel()
	code := map[string]string{}
	for _, name := range files(t) {
		if strings.HasPrefix(name, "examples/") && strings.HasSuffix(name, ".go") {
			code[name] = flat(read(t, name))
		}
	}
	checked := 0
	for _, name := range files(t) {
		if path.Ext(name) != ".md" {
			continue
		}
		for _, m := range mdFence.FindAllStringSubmatch(read(t, name), -1) {
			if m[1] != "go" {
				continue
			}
			checked++
			var in string
			for file, text := range code {
				if strings.Contains(text, flat(m[2])) {
					in = file
				}
			}
			if in == "" {
				t.Errorf("%s: this code is in no file of examples/, so nothing compiles it:\n%s", name, m[2])
			}
		}
	}
	if checked == 0 {
		t.Error("found no Go code in any document; README.md should show how to adopt")
	}
}

// flat returns the code without indentation and empty lines, so that a document may show a part of a function.
func flat(code string) string {
	var out strings.Builder
	for line := range strings.Lines(code) {
		if line = strings.TrimSpace(line); line != "" {
			out.WriteString(line + "\n")
		}
	}
	return out.String()
}

func TestEveryMakeTargetIsExplainedAndEveryScriptCanRun(t *testing.T) {
	t.Parallel()
	makefile := read(t, "Makefile")
	for _, target := range []string{"help", "build", "up", "test", "check", "generate", "bench", "soak", "clean"} {
		if !regexp.MustCompile(`(?m)^` + target + `:.*## .+$`).MatchString(makefile) {
			t.Errorf("Makefile: target %s is missing or has no ## comment for make help", target)
		}
	}
	for _, name := range files(t) {
		if !strings.HasPrefix(name, "scripts/") && !strings.HasPrefix(name, ".ci/") {
			continue
		}
		info, err := os.Stat(filepath.Join(root(t), filepath.FromSlash(name)))
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if info.Mode()&0o111 == 0 {
			t.Errorf("%s: mode %v; git update-index --chmod=+x %s", name, info.Mode(), name)
		}
	}
}
