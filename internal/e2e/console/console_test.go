package console_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"example.com/rolecall/internal/e2e/console"
)

func TestParseFindsCommandsAndTheirOutput(t *testing.T) {
	t.Parallel()
	document := strings.ReplaceAll(`Text.

    $ not this

'''sh
make up
'''

'''console
$ echo one \
    two
one two
$ true
$ echo three
'''
'''console
three
'''
`, "'''", "```")
	got, err := console.Parse(document)
	if err != nil {
		t.Fatalf("Parse: %v", err)
	}
	want := []console.Command{
		{Line: 10, Text: "echo one \\\n    two", Want: []string{"one two"}},
		{Line: 13, Text: "true"},
		{Line: 14, Text: "echo three", Want: []string{"three"}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Parse (-want +got):\n%s", diff)
	}
}

func TestParseKeepsHereDocumentsTogether(t *testing.T) {
	t.Parallel()
	got, err := console.Parse("```console\n$ cat <<END\none \\\ntwo\nEND\none two\n$ true\n```\n")
	if err != nil {
		t.Fatalf("Parse: %v", err)
	}
	want := []console.Command{{Line: 2, Text: "cat <<END\none \\\ntwo\nEND", Want: []string{"one two"}}, {Line: 7, Text: "true"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Parse (-want +got):\n%s", diff)
	}
	if got, err := console.Parse("```console\n$ cat <<END\none\n```\n"); err == nil {
		t.Errorf("a here-document that does not end: %+v, want an error", got)
	}
}

func TestParseRefusesBlocksThatMakeNoSense(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, document string }{
		{"output comes before any command", "```console\nhello\n```\n"},
		{"a block does not end", "```console\n$ true\n"},
		{"a command does not end", "```console\n$ true \\\n```\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if got, err := console.Parse(test.document); err == nil {
				t.Errorf("Parse(%q) = %+v, want an error", test.document, got)
			}
		})
	}
}

func TestMatches(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		want []string
		got  string
		ok   bool
	}{
		{"output that is not shown may be anything", nil, "whatever", true},
		{"the same", []string{"a", "b"}, "a\nb\n", true},
		{"a line more", []string{"a"}, "a\nb", false},
		{"a line less", []string{"a", "b"}, "a", false},
		{"dots within a line", []string{"id: …, end"}, "id: 17, end", true},
		{"dots within a line do not reach the next", []string{"a…b"}, "a\nb", false},
		{"a line of dots is any number of lines", []string{"a", "…", "z"}, "a\nb\nc\nz", true},
		{"a line of dots is also none", []string{"a", "…", "z"}, "a\nz", true},
		{"what else is in a line is taken literally", []string{"a.c (x)"}, "abc x", false},
		{"empty lines at the end do not count", []string{"a"}, "a\n\n", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if ok := (console.Command{Want: test.want}).Matches(test.got); ok != test.ok {
				t.Errorf("want %q, got %q: Matches = %v, want %v", test.want, test.got, ok, test.ok)
			}
		})
	}
}

func TestSessionKeepsVariablesAndShowsErrors(t *testing.T) {
	t.Parallel()
	session, err := console.Start(t.TempDir(), []string{"PATH=/usr/bin:/bin"})
	if err != nil {
		t.Skipf("no POSIX shell: %v", err)
	}
	defer session.Close()
	for _, step := range []struct{ command, want string }{
		{"x=1", ""},
		{`echo "x is $x" # a comment`, "x is 1"},
		{"echo oops >&2; false", "oops"},
		{"cat", ""}, // no standard input: it ends at once
		{"printf 'no newline'", "no newline"},
	} {
		got, err := session.Run(t.Context(), step.command)
		if err != nil {
			t.Fatalf("%s: %v", step.command, err)
		}
		if strings.TrimRight(got, "\n") != step.want {
			t.Errorf("%s: printed %q, want %q", step.command, got, step.want)
		}
	}
	if _, err := session.Run(t.Context(), "exit 3"); err == nil {
		t.Error("a command that ends the shell: no error")
	}
}
