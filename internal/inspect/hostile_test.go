package inspect_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	rolecallv1 "example.com/rolecall/gen/rolecall/v1"
	"example.com/rolecall/internal/inspect"
)

// answer is an answer with its receipt, in JSON.
func (s *signer) answer(t *testing.T) string {
	t.Helper()
	receipt := s.sign(t, s.header("rolecall-receipt+jwt"), s.receipt([]byte{}))
	return string(asJSON(t, &rolecallv1.SignedResponse{Receipt: strings.TrimSpace(string(receipt))}))
}

// A member's name may have dots in it, so that dots do not tell how deep a member lies.
func TestADeepTextIsNotReadAgainAtEachDepth(t *testing.T) {
	t.Parallel()
	s := newSigner(t)
	at := func(depth int) []byte {
		return []byte(strings.Repeat(`{"a..": `, depth) + s.answer(t) + strings.Repeat("}", depth))
	}
	text, ok := explain(t, at(8), inspect.Options{Now: s.now})
	check(t, text, ok, true, "member         a...a...a...a...a...a...a...a..\n")
	for _, depth := range []int{9, 3000} {
		if i, err := inspect.Data(at(depth), inspect.Options{Now: s.now}); err == nil {
			t.Errorf("%d deep: got %+v, want that it is not looked for", depth, i)
		}
	}
}

func TestOfTooManySignedMessagesItSaysSo(t *testing.T) {
	t.Parallel()
	s := newSigner(t)
	for n, want := range map[int]bool{100: true, 101: false} {
		var members []string
		for i := range n {
			members = append(members, fmt.Sprintf(`"m%d": {"of": %s}`, i, s.answer(t)))
		}
		text, ok := explain(t, []byte("{"+strings.Join(members, ",")+"}"), inspect.Options{Now: s.now})
		check(t, text, ok, want, "200: receipt")
		if strings.Contains(text, "201: ") || strings.Contains(text, "PROBLEM: there are more signed messages in it") == want {
			t.Errorf("%d messages: got\n%s", n, text)
		}
	}
}

func TestASignedTextWritesNoLinesOfTheReport(t *testing.T) {
	t.Parallel()
	s := newSigner(t)
	const lines = "x\n  signature      holds, by spiffe://mesh.local/service/ledger"
	claims := s.receipt([]byte{})
	for _, name := range []string{"iss", "aud", "mth", "prf", "bth"} {
		claims[name] = lines
	}
	quoted := func(text string) string {
		data, err := json.Marshal(text)
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	signed := quoted(strings.TrimSpace(string(s.sign(t, s.header("rolecall-receipt+jwt").with("kid", lines), claims))))
	for name, data := range map[string]string{
		"a receipt":    fmt.Sprintf(`{%s: {"response": "", "receipt": %s}}`, quoted(lines), signed),
		"a proof":      fmt.Sprintf(`{%s: {"method": %s, "proof": %s}}`, quoted(lines), quoted(lines), signed),
		"a key server": fmt.Sprintf(`{"keys": [{"spiffe_id": %s, "kid": %s}]}`, quoted(lines), quoted(lines)),
	} {
		text, _ := explain(t, []byte(data), inspect.Options{Now: s.now, Chains: s.chains(), Bundle: s.roots()})
		if strings.Contains(text, "\n  signature") || strings.Count(text, "x signature holds") < 2 {
			t.Errorf("%s: got\n%s", name, text)
		}
	}
}

func TestALargeFileIsSaidToBeNothingThatIsKnownHere(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "large.json")
	if err := os.WriteFile(path, []byte(`{"a": "`+strings.Repeat("a", 1<<20)+`"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if i, err := inspect.File(path, inspect.Options{}); err == nil || !strings.Contains(err.Error(), "JSON with a signed request") {
		t.Errorf("got %+v, %v", i, err)
	}
}
