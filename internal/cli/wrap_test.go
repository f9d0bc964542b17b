package cli_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"example.com/rolecall/internal/cli"
)

func TestWrapBreaksBetweenWords(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, text string
		room       int
		want       []string
	}{
		{"what fits stays one line", "one two", 7, []string{"one two"}},
		{"what does not is broken", "one two three", 7, []string{"one two", "three"}},
		{"a word that is too long stands alone", "a spiffe://mesh.local/x b", 10, []string{"a", "spiffe://mesh.local/x", "b"}},
		{"characters count, not bytes", "← ← ←", 5, []string{"← ← ←"}},
		{"without a limit there is one line", "one two three", 0, []string{"one two three"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(test.want, cli.Wrap(test.text, test.room)); diff != "" {
				t.Errorf("Wrap(%q, %d) (-want +got):\n%s", test.text, test.room, diff)
			}
		})
	}
}

func TestParagraphsAreWrappedAndWhatIsIndentedStays(t *testing.T) {
	t.Parallel()
	text := "one two\nthree four\n\n  kept    as it is\n  and this\nfive\n"
	want := "one two three\nfour\n\n  kept    as it is\n  and this\nfive\n"
	if diff := cmp.Diff(want, cli.Paragraphs(text, 14)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
