package pki

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"
)

// maxJSONDepth bounds how deep a document from outside may nest.
const maxJSONDepth = 16

// checkJSON wants one JSON value in UTF-8 in which no object has a member twice, at any depth and however it is escaped:
// where one reader takes the first and another the last, two of them see two documents (RFC 8259 §4).
func checkJSON(data []byte) error {
	if !utf8.Valid(data) {
		return errors.New("not UTF-8 text")
	}
	in := json.NewDecoder(bytes.NewReader(data))
	in.UseNumber()
	// One entry for each open value: the names seen in an object, nil for an array.
	var open []map[string]bool
	name := false // the next token is the name of a member
	for {
		token, err := in.Token()
		if errors.Is(err, io.EOF) {
			return errors.New("not JSON: it ends too early")
		}
		if err != nil {
			return fmt.Errorf("not JSON: %w", err)
		}
		switch t := token.(type) {
		case json.Delim:
			switch t {
			case '{':
				open = append(open, map[string]bool{})
			case '[':
				open = append(open, nil)
			default:
				open = open[:len(open)-1]
			}
			if len(open) > maxJSONDepth {
				return fmt.Errorf("nested deeper than %d levels", maxJSONDepth)
			}
		case string:
			if name {
				seen := open[len(open)-1]
				if seen[t] {
					return fmt.Errorf("the member %.80q occurs twice in one object", t)
				}
				seen[t] = true
				name = false
				continue // its value follows
			}
		}
		if len(open) == 0 {
			break
		}
		name = open[len(open)-1] != nil
	}
	if _, err := in.Token(); !errors.Is(err, io.EOF) {
		return errors.New("more than one JSON value")
	}
	return nil
}
