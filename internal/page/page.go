// Package page writes and reads the tokens that walk through a long answer page by page, as https://google.aip.dev/158
// says.
//
//	size, after, err := page.Read("ledger.ListEntries "+account, req.GetPageSize(), req.GetPageToken())
//	next := page.Token("ledger.ListEntries "+account, lastOfThisPage)
//
// A token says where the next page starts and to which question it belongs, so one that was made for another method or
// account is refused. It is not signed: it opens nothing that the question itself does not.
package page

import (
	"crypto/sha256"
	"encoding/base64"

	"example.com/rolecall/interceptors"
)

const (
	// DefaultSize is the size of a page when the caller asks for none.
	DefaultSize = 100
	// MaxSize is the size of a page when the caller asks for more.
	MaxSize = 1000

	version    = 1
	digestSize = 8
	maxCursor  = 128
)

// Read returns how many items the page has at most, and the cursor that Token was given: empty on the first page. A
// negative size and a token that does not belong to the question are INVALID_ARGUMENT; they name page_size and page_token.
func Read(question string, size int32, token string) (items int, cursor string, err error) {
	switch {
	case size < 0:
		return 0, "", interceptors.InvalidField("page_size", "must not be negative")
	case size == 0:
		items = DefaultSize
	default:
		items = min(int(size), MaxSize)
	}
	if token == "" {
		return items, "", nil
	}
	head := heading(question)
	if len(token) <= base64.RawURLEncoding.EncodedLen(len(head)+maxCursor) {
		raw, err := base64.RawURLEncoding.DecodeString(token)
		if err == nil && len(raw) > len(head) && string(raw[:len(head)]) == head &&
			base64.RawURLEncoding.EncodeToString(raw) == token { // DecodeString takes line breaks and stray bits too
			return items, string(raw[len(head):]), nil
		}
	}
	return 0, "", Foreign()
}

// Token makes the token of the page after the item that cursor names: 1 to 128 bytes. It panics on a longer one.
func Token(question, cursor string) string {
	if cursor == "" || len(cursor) > maxCursor {
		panic("page: cursor of " + question + " is empty or too long")
	}
	return base64.RawURLEncoding.EncodeToString([]byte(heading(question) + cursor))
}

// Foreign is the error for a token whose cursor turns out not to be one of this question.
func Foreign() error {
	return interceptors.InvalidField("page_token", "must be the next_page_token of an earlier answer to the same question, or empty")
}

func heading(question string) string {
	digest := sha256.Sum256([]byte(question))
	return string(append([]byte{version}, digest[:digestSize]...))
}
