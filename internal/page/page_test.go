package page_test

import (
	"encoding/base64"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"example.com/rolecall/internal/page"
)

func TestATokenIsReadOnlyByItsOwnQuestion(t *testing.T) {
	t.Parallel()
	token := page.Token("ledger.ListEntries a", "17")
	if size, cursor, err := page.Read("ledger.ListEntries a", 0, token); err != nil || size != page.DefaultSize || cursor != "17" {
		t.Errorf("its own question: %d, %q, %v", size, cursor, err)
	}
	raw, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil {
		t.Fatal(err)
	}
	raw[0]++
	for name, bad := range map[string]string{
		"of another version":           base64.RawURLEncoding.EncodeToString(raw),
		"without its cursor":           base64.RawURLEncoding.EncodeToString(append([]byte{raw[0] - 1}, raw[1:9]...)),
		"cut":                          token[:len(token)-1],
		"padded":                       token + "=",
		"in another alphabet":          strings.ToUpper(token),
		"too long":                     strings.Repeat("A", 1000),
		"of another question":          page.Token("ledger.ListEntries b", "17"),
		"with a line break":            token[:4] + "\n" + token[4:],
		"with bits that nothing reads": token[:len(token)-1] + string(token[len(token)-1]+1),
	} {
		if bad == token {
			t.Fatalf("%s: the token is not a bad one", name)
		}
		if _, cursor, err := page.Read("ledger.ListEntries a", 0, bad); status.Code(err) != codes.InvalidArgument {
			t.Errorf("%s: got cursor %q, %v, want InvalidArgument", name, cursor, err)
		}
	}
}

func TestTheSizeOfAPageIsBounded(t *testing.T) {
	t.Parallel()
	for asked, want := range map[int32]int{0: page.DefaultSize, 1: 1, 1000: 1000, 1001: page.MaxSize, 1<<31 - 1: page.MaxSize} {
		if got, _, err := page.Read("q", asked, ""); err != nil || got != want {
			t.Errorf("%d: got %d, %v, want %d", asked, got, err, want)
		}
	}
	if _, _, err := page.Read("q", -1, ""); status.Code(err) != codes.InvalidArgument {
		t.Errorf("-1: got %v, want InvalidArgument", err)
	}
}

// Whatever a caller sends: a token that is accepted is the one that Token makes.
func FuzzRead(f *testing.F) {
	f.Add(page.Token("q", "17"))
	f.Add(page.Token("other", "17"))
	f.Add("")
	f.Fuzz(func(t *testing.T, token string) {
		_, cursor, err := page.Read("q", 0, token)
		if err == nil && token != "" && page.Token("q", cursor) != token {
			t.Errorf("%q is accepted as %q", token, cursor)
		}
	})
}
