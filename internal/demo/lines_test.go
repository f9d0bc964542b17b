package demo

import (
	"os"
	"os/exec"
	"strings"
	"testing"
	"unicode/utf8"
)

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
