package tokens

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
)

// A refresh token is rolecall_ and the base64url of a locator and a secret. All tokens of a session have its locator, so one
// that was used long ago is known for what it is without being kept. Nobody but the holders of such tokens ever sees the
// locator, so nobody else can make up a token that looks used.
const (
	refreshPrefix = "rolecall_"
	locatorSize   = 16
	secretSize    = 32
)

// refresh is a refresh token. It shows in no log.
type refresh [locatorSize + secretSize]byte

// LogValue hides it.
func (refresh) LogValue() slog.Value { return slog.StringValue("hidden") }

// Format hides it from every verb of fmt.
func (refresh) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("hidden")) }

var b64 = base64.RawURLEncoding.Strict()

// newRefresh makes the first refresh token of a session.
func newRefresh() (t refresh) {
	_, _ = rand.Read(t[:]) // never fails
	return t
}

// next makes another token of the same session.
func (t refresh) next() refresh {
	_, _ = rand.Read(t[locatorSize:])
	return t
}

func (t refresh) text() string { return refreshPrefix + b64.EncodeToString(t[:]) }

var errNotRefresh = errors.New("not a refresh token")

func parseRefresh(text string) (t refresh, err error) {
	if len(text) != len(refreshPrefix)+b64.EncodedLen(len(t)) || text[:len(refreshPrefix)] != refreshPrefix {
		return refresh{}, errNotRefresh
	}
	if n, err := b64.Decode(t[:], []byte(text[len(refreshPrefix):])); err != nil || n != len(t) {
		return refresh{}, errNotRefresh
	}
	return t, nil
}

// locator is what the session is found by, and digest what the token is recognised by: hashes both, for the database.
func (t refresh) locator() string { return digest(t[:locatorSize]) }
func (t refresh) digest() string  { return digest(t[:]) }

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return b64.EncodeToString(sum[:])
}

// seal encrypts the successor of a token for who has the token itself: the database alone gives neither.
func (t refresh) seal(successor refresh) (string, error) {
	box, err := t.box()
	if err != nil {
		return "", err
	}
	return b64.EncodeToString(box.Seal(nil, nil, successor[:], nil)), nil
}

// open decrypts what seal encrypted.
func (t refresh) open(sealed string) (successor refresh, err error) {
	box, err := t.box()
	if err != nil {
		return refresh{}, err
	}
	data, err := b64.DecodeString(sealed)
	if err != nil {
		return refresh{}, errors.New("a stored successor is not base64url")
	}
	plain, err := box.Open(nil, nil, data, nil)
	if err != nil || len(plain) != len(successor) {
		return refresh{}, errors.New("a stored successor does not belong to the token that was used")
	}
	return refresh(plain), nil
}

func (t refresh) box() (cipher.AEAD, error) {
	key, err := hkdf.Key(sha256.New, t[:], nil, "rolecall refresh successor", 32)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

// newID returns an identifier of 128 random bits.
func newID() string {
	var b [16]byte
	_, _ = rand.Read(b[:])
	return b64.EncodeToString(b[:])
}
