package demo

import (
	"os"
	"os/exec"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
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
		{"without a terminal there is one line", "one two three", 0, []string{"one two three"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(test.want, wrap(test.text, test.room)); diff != "" {
				t.Errorf("wrap(%q, %d) (-want +got):\n%s", test.text, test.room, diff)
			}
		})
	}
}

func TestACommandThatWasBrokenIsTheSameForTheShell(t *testing.T) {
	t.Parallel()
	sh, err := exec.LookPath("sh")
	if err != nil && os.Getenv("CI") == "true" {
		t.Fatal(err)
	} else if err != nil {
		t.Skipf("no shell: %v", err)
	}
	for _, command := range []string{
		`printf '<%s>\n' call ledger/Transfer --as alice -d '{"amount":{"currency":"EUR","minor_units":"1250"},"from_account":"'$bank'","to_account":"'$shop'"}' --sign`,
		`f() { note=$1 id=$2; shift 2; printf '<%s>\n' -d '{"note":"'"$note"'","request_id":"'"$id"'"}' "$@"; }; f 'a map' 17 --timeout 2s`,
		`printf '<%s>\n' -H "authorization: Bearer $token, and more" -d "{\"refresh_token\": \"$refresh\",\"more\":1}" localhost:7444   # and a remark that is long enough`,
		`x=$(printf '{\n  "accountId": "17",\n}' | sed -n 's/.*"accountId": "\(.*\)".*/\1/p'); printf '<%s>\n' "$x" a\ b c`,
	} {
		want := output(t, sh, command)
		for room := 20; room < len(command); room += 7 {
			lines := wrapCommand(command, room)
			// The tour indents what follows the first line.
			if got := output(t, sh, strings.Join(lines, "\n      ")); strings.Join(strings.Fields(got), "") != strings.Join(strings.Fields(want), "") {
				t.Errorf("in lines of %d:\n%s\nprints %s\nwant %s", room, strings.Join(lines, "\n"), got, want)
			}
			for _, line := range lines {
				if utf8.RuneCountInString(line) > max(room, 60) {
					t.Errorf("a line of more than %d: %s", room, line)
				}
			}
		}
	}
}

func output(t *testing.T, sh, command string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), sh, "-c", "bank=1; shop=2; token=3; refresh=4\n"+command).CombinedOutput()
	if err != nil {
		t.Errorf("%s: %v\n%s", command, err, out)
	}
	return string(out)
}
