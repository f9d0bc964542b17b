package cli_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"example.com/rolecall/internal/cli"
)

func TestATableLinesItsColumnsUp(t *testing.T) {
	t.Parallel()
	var buf bytes.Buffer
	table := cli.Table{Header: []string{"SERVICE", "ADDRESS", "ID"}}
	table.Add("ledger", "127.0.0.1:7445", "spiffe://mesh.local/service/ledger")
	table.Add("o", "\x1b[31mé\x1b[0m", "")
	table.Write(cli.Plain(&buf))
	want := "SERVICE  ADDRESS         ID\n" +
		"ledger   127.0.0.1:7445  spiffe://mesh.local/service/ledger\n" +
		"o        \x1b[31mé\x1b[0m\n"
	if got := buf.String(); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

func TestATableIsFoldedToTheTerminal(t *testing.T) {
	t.Parallel()
	table := cli.Table{Header: []string{"OPERATOR", "ROLES"}}
	table.Add("alice", "ledger.admin ledger.writer ledger.reader orders.reader")
	table.Add("bob", "\x1b[31mledger.reader orders.reader\x1b[0m")
	table.Add("carol", "a.role.that.is.one.long.word")
	want := "OPERATOR  ROLES\n" +
		"alice     ledger.admin\n" +
		"          ledger.writer\n" +
		"          ledger.reader\n" +
		"          orders.reader\n" +
		"bob       \x1b[31mledger.reader orders.reader\x1b[0m\n" +
		"carol     a.role.that.is.one.long.word\n"
	if got := table.Text(30); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
	if got := table.Text(20); strings.Count(got, "\n") != 4 {
		t.Errorf("without room to fold anything, got:\n%s\nwant four lines", got)
	}
}

func TestMarkdownCellsCannotEndTheirColumn(t *testing.T) {
	t.Parallel()
	var buf bytes.Buffer
	table := cli.Table{Header: []string{"A", "B"}}
	table.Add("x|y", "z")
	table.Markdown(cli.Plain(&buf))
	if got, want := buf.String(), "| A | B |\n|---|---|\n| x\\|y | z |\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestWithoutATerminalProgressIsOneLineForEachChangeAndHasNoEscapes(t *testing.T) {
	t.Parallel()
	var buf bytes.Buffer
	p := cli.NewProgress(cli.Plain(&buf), "authority", "ledger")
	p.Set("authority", cli.Working, "starting")
	p.Set("authority", cli.Working, "starting")
	p.Set("authority", cli.Done, "127.0.0.1:7441")
	p.Set("nobody", cli.Done, "")
	p.End()
	p.Set("ledger", cli.Failed, "late")
	lines := strings.Split(strings.TrimSpace(buf.String()), "\n")
	if len(lines) != 2 || strings.Contains(buf.String(), "\x1b") {
		t.Errorf("got %q, want two lines without escapes", buf.String())
	}
}

func TestOutputToAFileHasNoColour(t *testing.T) {
	t.Parallel()
	f, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if got := cli.New(f).Red("x"); got != "x" {
		t.Errorf("red on a file: %q", got)
	}
}

func TestCleanTakesAwayWhatATerminalActsOn(t *testing.T) {
	t.Parallel()
	tests := map[string]string{
		"plain text, ünï":       "plain text, ünï",
		"\x1b]0;owned\x07":      "?]0;owned?",
		"line\nline\ttab":       "line line tab",
		"right\u202eto left":    "right?to left",
		"c1 \u009b31m \xff end": "c1 ?31m ? end",
	}
	for in, want := range tests {
		if got := cli.Clean(in); got != want {
			t.Errorf("Clean(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestACellMakesNoRow(t *testing.T) {
	t.Parallel()
	table := cli.Table{Header: []string{"SERVICE", "POLICY"}}
	table.Add("ledger", "\x1b[31mv1\x1b[0m\norders  \x1b[2Kv1")
	if got, want := table.Text(80), "SERVICE  POLICY\nledger   \x1b[31mv1\x1b[0m orders  ?[2Kv1\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestExitCodes(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		err   error
		code  int
		shown string
	}{
		"done":                      {nil, 0, ""},
		"failed":                    {errors.New("no such file"), 1, "rolecall: no such file\n"},
		"a peer's words":            {errors.New("a\x1b[2K\n  b"), 1, "rolecall: a?[2K\n  b\n"},
		"wrong usage":               {fmt.Errorf("up: %w", cli.Usagef("no such flag")), 2, "rolecall: up: no such flag\n"},
		"the code of a program run": {&cli.CodeError{Code: 42}, 42, ""},
		"shown already":             {cli.ErrReported, 1, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			code := cli.Exit(f, tt.err)
			shown, err := os.ReadFile(f.Name())
			if err != nil {
				t.Fatal(err)
			}
			if code != tt.code || string(shown) != tt.shown {
				t.Errorf("code %d and %q, want %d and %q", code, shown, tt.code, tt.shown)
			}
		})
	}
}

func TestSpansReadWell(t *testing.T) {
	t.Parallel()
	tests := map[time.Duration]string{
		0:                              "0s",
		8400 * time.Millisecond:        "8s",
		12*time.Minute + 5*time.Second: "12m5s",
		24*time.Hour - time.Minute:     "23h59m",
		7*24*time.Hour - time.Hour:     "6d23h",
		-90 * time.Second:              "-1m30s",
	}
	for in, want := range tests {
		if got := cli.Span(in); got != want {
			t.Errorf("Span(%s) = %q, want %q", in, got, want)
		}
	}
}

func TestAShellReadsQuotedWordsBack(t *testing.T) {
	t.Parallel()
	words := []string{"plain/path.crt", "two words", "it's", `{"a": "$HOME"}`, "", "*"}
	out, err := exec.Command("sh", "-c", "printf '%s\\n' "+cli.Quote(words...)).Output()
	if err != nil {
		t.Fatal(err)
	}
	if got, want := string(out), strings.Join(words, "\n")+"\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestPathsAreWrittenAsAShellHereTakesThem(t *testing.T) {
	t.Parallel()
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	outside := filepath.Join(filepath.Dir(here), "elsewhere", "rolecall")
	for path, want := range map[string][2]string{ // as a path, and as a program
		filepath.Join(here, "bin", "rolecall"): {filepath.Join("bin", "rolecall"), filepath.Join("bin", "rolecall")},
		filepath.Join(here, "rolecall"):        {"rolecall", "./rolecall"},
		outside:                                {outside, outside},
	} {
		if got := [2]string{cli.Relative(path), cli.Program(path)}; got != want {
			t.Errorf("%s: got %q, want %q", path, got, want)
		}
	}
}
