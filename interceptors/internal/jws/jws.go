// Package jws reads and writes JSON Web Signatures (RFC 7515) in the one form that rolecall uses: compact, with a header
// that says what it must and nothing else. It follows RFC 8725: the algorithm is the key's and not the header's, the type
// is checked, and a header that points at a key or asks for an extension is refused, never followed.
//
//	token, err := jws.Parse(text, 8<<10)            // nothing is verified yet
//	key, ok := keys[token.KeyID]
//	claims, err := token.Verify(key, "at+jwt")      // an Object that the key's holder signed
//
// What the claims mean is for the caller: jws knows no time and no audience.
package jws

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
)

// Bounds of what a header may say.
const (
	maxHeader = 1 << 10
	maxKeyID  = 128
)

// Token is a signed text in three parts of which nothing has been verified. Not for concurrent use.
type Token struct {
	// Algorithm, Type and KeyID are what the header claims.
	Algorithm, Type, KeyID string

	payload   []byte
	claims    Object // nil until somebody asked
	signed    string // the text that the signature is over
	signature []byte
}

var encoding = base64.RawURLEncoding.Strict()

// Parse splits a token of at most maxLength bytes. It accepts a header of alg, typ and kid, all three, and nothing beside
// them: jku, jwk, x5u, x5c and crit are refused like any other name (RFC 8725 §3.10).
func Parse(text string, maxLength int) (*Token, error) {
	t, header, err := parse(text, maxLength)
	if err == nil && len(header) != 3 {
		err = errors.New("the header holds more than alg, typ and kid")
	}
	if err != nil {
		return nil, err
	}
	return t, nil
}

// pointers are header members that say where a key is to be had, and the one that asks for an extension.
var pointers = []string{"jku", "jwk", "x5u", "x5c", "crit"}

// ParseOther is Parse for tokens that others make, whose headers may hold more members. They mean nothing here (RFC 7515
// §4), but those that point at a key or ask for an extension are refused all the same.
func ParseOther(text string, maxLength int) (*Token, error) {
	t, header, err := parse(text, maxLength)
	if err != nil {
		return nil, err
	}
	for _, name := range pointers {
		if header.Has(name) {
			return nil, fmt.Errorf("the header holds %s", name)
		}
	}
	return t, nil
}

func parse(text string, maxLength int) (*Token, Object, error) {
	if len(text) > maxLength {
		return nil, nil, fmt.Errorf("longer than %d bytes", maxLength)
	}
	// Counted first: a million dots must not become a million parts.
	if strings.Count(text, ".") != 2 {
		return nil, nil, errors.New("not three parts with two dots between them")
	}
	head, rest, _ := strings.Cut(text, ".")
	body, tail, _ := strings.Cut(rest, ".")
	if len(head) > maxHeader {
		return nil, nil, fmt.Errorf("the header is longer than %d bytes", maxHeader)
	}
	var parts [3][]byte
	for i, part := range []string{head, body, tail} {
		// The decoder passes over line ends, which are no part of a token.
		decoded, err := encoding.DecodeString(part)
		if err != nil || strings.ContainsAny(part, "\r\n") {
			return nil, nil, fmt.Errorf("part %d is not base64url without padding", i+1)
		}
		parts[i] = decoded
	}
	header, err := ParseObject(parts[0])
	if err != nil {
		return nil, nil, fmt.Errorf("header: %w", err)
	}
	t := &Token{payload: parts[1], signature: parts[2], signed: text[:len(head)+1+len(body)]}
	for _, member := range []struct {
		name string
		to   *string
	}{{"alg", &t.Algorithm}, {"typ", &t.Type}, {"kid", &t.KeyID}} {
		if *member.to, err = header.String(member.name); err != nil {
			return nil, nil, fmt.Errorf("header: %w", err)
		}
	}
	if len(t.KeyID) > maxKeyID {
		return nil, nil, fmt.Errorf("the key identifier is longer than %d bytes", maxKeyID)
	}
	return t, header, nil
}

// Issuer returns the claim iss, for which nobody has vouched yet: it may choose the keys to verify with, and nothing else.
func (t *Token) Issuer() (string, error) {
	claims, err := t.unverified()
	if err != nil {
		return "", err
	}
	return claims.String("iss")
}

// Unverified returns the claims, for which nobody has vouched yet: a reason to refuse the token at once may be found in them,
// and never one to accept it.
func (t *Token) Unverified() (Object, error) { return t.unverified() }

func (t *Token) unverified() (Object, error) {
	if t.claims == nil {
		claims, err := ParseObject(t.payload)
		if err != nil {
			return nil, fmt.Errorf("claims: %w", err)
		}
		t.claims = claims
	}
	return t.claims, nil
}

// Verify checks that the token is of the type, that its header names the key and the key's algorithm, and the signature.
// It returns what was signed.
func (t *Token) Verify(key Key, typ string) (Object, error) {
	switch {
	case t.Type != typ:
		return nil, fmt.Errorf("the type is %.40q, not %s", t.Type, typ)
	case t.KeyID != key.ID:
		return nil, errors.New("it is signed with another key than is at hand")
	case t.Algorithm != key.Algorithm:
		return nil, fmt.Errorf("the algorithm is %.40q, and the key's is %s", t.Algorithm, key.Algorithm)
	}
	if err := key.verify(t.signed, t.signature); err != nil {
		return nil, err
	}
	return t.unverified()
}
