package jws

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// maxDepth bounds how deep an object may nest.
const maxDepth = 16

// Object is a JSON object by its exact keys: encoding/json would take "EXP" for "exp" and the last of two.
type Object map[string]json.RawMessage

// ParseObject reads one JSON object and refuses what two readers may read differently: a key that occurs twice (RFC 7515
// §4 and RFC 7519 §4 leave it to the reader), at whatever depth, text behind the object, invalid UTF-8, and deep nesting.
func ParseObject(data []byte) (Object, error) {
	if !utf8.Valid(data) {
		return nil, errors.New("not UTF-8")
	}
	if !json.Valid(data) {
		return nil, errors.New("not JSON")
	}
	w := walker{data: data}
	if w.peek() != '{' {
		return nil, errors.New("not a JSON object")
	}
	object := make(Object, 16)
	if err := w.object(1, object); err != nil {
		return nil, err
	}
	return object, nil
}

// walker goes once over a text that is known to be valid JSON.
type walker struct {
	data []byte
	at   int
}

// peek returns the next byte that is not white space.
func (w *walker) peek() byte {
	for strings.IndexByte(" \t\r\n", w.data[w.at]) >= 0 {
		w.at++
	}
	return w.data[w.at]
}

// object puts the members of an object into found.
func (w *walker) object(depth int, found Object) error {
	if depth > maxDepth {
		return fmt.Errorf("nested deeper than %d", maxDepth)
	}
	w.at++ // {
	for w.peek() != '}' {
		key, err := unquote(w.text())
		if err != nil {
			return err
		}
		if _, twice := found[key]; twice {
			return fmt.Errorf("the key %.40q occurs twice", key)
		}
		w.peek()
		w.at++ // :
		w.peek()
		start := w.at
		if err := w.value(depth); err != nil {
			return err
		}
		found[key] = w.data[start:w.at:w.at]
		if w.peek() == ',' {
			w.at++
		}
	}
	w.at++ // }
	return nil
}

func (w *walker) value(depth int) error {
	switch w.data[w.at] {
	case '{':
		return w.object(depth+1, Object{})
	case '[':
		return w.array(depth + 1)
	case '"':
		w.text()
		return nil
	}
	// A number or a word ends where something else begins; the end of the object follows on it at the latest.
	for strings.IndexByte(",]} \t\r\n", w.data[w.at]) < 0 {
		w.at++
	}
	return nil
}

func (w *walker) array(depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("nested deeper than %d", maxDepth)
	}
	w.at++ // [
	for w.peek() != ']' {
		if err := w.value(depth); err != nil {
			return err
		}
		if w.peek() == ',' {
			w.at++
			w.peek()
		}
	}
	w.at++ // ]
	return nil
}

// text returns a string with its quotes.
func (w *walker) text() []byte {
	start := w.at
	for w.at++; w.data[w.at] != '"'; w.at++ {
		if w.data[w.at] == '\\' {
			w.at++
		}
	}
	w.at++
	return w.data[start:w.at]
}

// unquote returns what a JSON string says.
func unquote(raw []byte) (string, error) {
	if n := len(raw); n >= 2 && raw[0] == '"' && bytes.IndexByte(raw, '\\') < 0 {
		return string(raw[1 : n-1]), nil
	}
	var s *string
	if err := json.Unmarshal(raw, &s); err != nil || s == nil {
		return "", errors.New("not a string")
	}
	return *s, nil
}

// Has tells whether the object has the key, with whatever value.
func (o Object) Has(key string) bool {
	_, ok := o[key]
	return ok
}

// String returns a string that must be there and not empty.
func (o Object) String(key string) (string, error) {
	s, err := unquote(o[key])
	if err != nil || s == "" {
		return "", fmt.Errorf("%s is not a string with something in it", key)
	}
	return s, nil
}

// Strings returns an array of strings that must be there.
func (o Object) Strings(key string) ([]string, error) {
	var list []*string
	if err := json.Unmarshal(o[key], &list); err != nil || list == nil {
		return nil, fmt.Errorf("%s is not an array of strings", key)
	}
	out := make([]string, len(list))
	for i, s := range list {
		if s == nil {
			return nil, fmt.Errorf("%s is not an array of strings", key)
		}
		out[i] = *s
	}
	return out, nil
}

// maxNumber is the largest integer that every JSON reader has exactly (RFC 8259 §6).
const maxNumber = 1<<53 - 1

// Int returns an integer of 0 to 2^53-1 that must be there: no float, no exponent, no string.
func (o Object) Int(key string) (int64, error) {
	raw := o[key]
	if len(raw) == 0 || len(raw) > 16 {
		return 0, fmt.Errorf("%s is not a whole number", key)
	}
	var n int64
	for i, c := range raw {
		if c < '0' || c > '9' || i == 0 && c == '0' && len(raw) > 1 {
			return 0, fmt.Errorf("%s is not a whole number", key)
		}
		n = 10*n + int64(c-'0')
	}
	if n > maxNumber {
		return 0, fmt.Errorf("%s is too large a number", key)
	}
	return n, nil
}
