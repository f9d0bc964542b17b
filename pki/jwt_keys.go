package pki

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
)

const (
	jwtDir       = "jwt"
	maxJWTKeys   = 32 // files that are read
	keptJWTKeys  = 8  // two or three in normal life; more only where the clock was set to and fro
	pemPublicKey = "PUBLIC KEY"
	notBeforeKey = "Not-Before: " // lines before the first block
	notAfterKey  = "Not-After: "
)

// jwtKey is one generation of the key that signs JWT-SVIDs. No certificate is about it: verifiers know it from the bundle.
type jwtKey struct {
	generation          int
	id                  string // kid
	key                 crypto.Signer
	signer              jose.Signer
	notBefore, notAfter time.Time
}

// jwtState is the JWT keys as they were read. Immutable.
type jwtState struct {
	keys  []*jwtKey // by generation
	files map[string]fileStamp
}

func (k *jwtKey) span() time.Duration { return k.notAfter.Sub(k.notBefore) }

// made is when the key was made, to a second or two: its start without the backdating.
func (k *jwtKey) made() time.Time { return issuedAt(k.notBefore, k.notAfter) }

func (k *jwtKey) valid(now time.Time) bool { return !now.Before(k.notBefore) && now.Before(k.notAfter) }

// active returns the key that signs at now, nil if none is valid. The rule is that of issuers: a key takes over at 5/6 of
// the life of the one before it (or after a third of its own, if that is earlier), so that verifiers have long seen it.
func (j jwtState) active(now time.Time) *jwtKey {
	var active *jwtKey
	for _, k := range j.keys {
		if !k.valid(now) {
			continue
		}
		if active == nil || !now.Before(active.notBefore.Add(active.span()*5/6)) || !now.Before(k.notBefore.Add(k.span()/3)) {
			active = k
		}
	}
	return active
}

// due tells whether a further key is to be made: none is in the first half of its life.
func (j jwtState) due(now time.Time) bool {
	return !slices.ContainsFunc(j.keys, func(k *jwtKey) bool {
		return k.valid(now) && now.Before(k.notBefore.Add(k.span()/2))
	})
}

// surplus returns the keys to delete at now: those that have expired, and of too many others those that a clock far ahead
// had made.
func (j jwtState) surplus(now time.Time) (out []*jwtKey) {
	var alive []*jwtKey
	for _, k := range j.keys {
		if now.Before(k.notAfter) {
			alive = append(alive, k)
		} else {
			out = append(out, k)
		}
	}
	slices.SortFunc(alive, func(a, b *jwtKey) int { return a.notBefore.Compare(b.notBefore) })
	return append(out, alive[min(len(alive), keptJWTKeys):]...)
}

// loadJWT reads the JWT keys into next. Keys of files that have not changed are taken from the last read.
func (s *Issuers) loadJWT(next *issuersState) error {
	paths, err := filepath.Glob(filepath.Join(s.dir, jwtDir, "[0-9]*.pem"))
	if err != nil {
		return err
	}
	if len(paths) > maxJWTKeys {
		return fmt.Errorf("%d files in %s, at most %d are read", len(paths), filepath.Join(s.dir, jwtDir), maxJWTKeys)
	}
	read := jwtState{files: map[string]fileStamp{}}
	for _, path := range paths {
		key, stamp, err := s.loadJWTKey(path)
		if _, gone := os.Stat(path); errors.Is(gone, fs.ErrNotExist) {
			continue // another process removed an expired one meanwhile
		}
		if err != nil {
			return fmt.Errorf("JWT key: %w", err)
		}
		read.keys = append(read.keys, key)
		read.files[path] = stamp
	}
	slices.SortFunc(read.keys, func(a, b *jwtKey) int { return a.generation - b.generation })
	next.jwt = read
	return nil
}

func (s *Issuers) loadJWTKey(path string) (*jwtKey, fileStamp, error) {
	generation, err := strconv.Atoi(strings.TrimSuffix(filepath.Base(path), ".pem"))
	if err != nil || generation < 1 {
		return nil, fileStamp{}, fmt.Errorf("%s: the name of a JWT key's file is its generation, 0001.pem", path)
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, fileStamp{}, err
	}
	stamp := fileStamp{info.ModTime(), info.Size()}
	if last := s.state.Load(); last != nil && last.jwt.files[path] == stamp {
		for _, k := range last.jwt.keys {
			if k.generation == generation {
				return k, stamp, nil
			}
		}
	}
	data, err := readSecret(path)
	if err != nil {
		return nil, stamp, err
	}
	key, err := s.openJWTKey(path, data)
	if err != nil {
		return nil, stamp, err
	}
	key.generation = generation
	return key, stamp, nil
}

// openJWTKey decrypts a key and reads its times.
func (s *Issuers) openJWTKey(path string, data []byte) (*jwtKey, error) {
	public, notBefore, notAfter, err := parseJWTPublic(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w; delete the file, and the authority makes another key", path, err)
	}
	key, err := s.openKey(path, data, public)
	if err != nil {
		return nil, err
	}
	signer, id, err := newTokenSigner(key)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return &jwtKey{id: id, key: key, signer: signer, notBefore: notBefore, notAfter: notAfter}, nil
}

// encodeJWTKey returns the content of a key's file: its times as text, which RFC 7468 §2 allows before the first block and
// openssl passes over (headers within a block it does not), the encrypted key (PEM), and the public one.
func encodeJWTKey(k *jwtKey, private []byte) ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(k.key.Public())
	if err != nil {
		return nil, fmt.Errorf("encode JWT key: %w", err)
	}
	text := fmt.Sprintf("%s%s\n%s%s\n", notBeforeKey, utc(k.notBefore), notAfterKey, utc(k.notAfter))
	public := pem.EncodeToMemory(&pem.Block{Type: pemPublicKey, Bytes: der})
	return slices.Concat([]byte(text), private, public), nil
}

// parseJWTPublic reads all but the encrypted key.
func parseJWTPublic(data []byte) (public *ecdsa.PublicKey, notBefore, notAfter time.Time, err error) {
	fail := func(err error) (*ecdsa.PublicKey, time.Time, time.Time, error) {
		return nil, time.Time{}, time.Time{}, err
	}
	start := bytes.Index(data, []byte("-----BEGIN "+pemPublicKey+"-----"))
	if start < 0 {
		return fail(errors.New("holds no public key beside the encrypted one"))
	}
	block, _ := pem.Decode(data[start:])
	if block == nil {
		return fail(errors.New("the public key is truncated"))
	}
	parsed, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return fail(fmt.Errorf("public key: %w", err))
	}
	public, ok := parsed.(*ecdsa.PublicKey)
	if !ok {
		return fail(fmt.Errorf("holds a %T, an ECDSA key is needed", parsed))
	}
	text, _, _ := strings.Cut(string(data), "-----BEGIN ")
	lines := strings.Split(text, "\n")
	if len(lines) != 3 || !strings.HasPrefix(lines[0], notBeforeKey) || !strings.HasPrefix(lines[1], notAfterKey) || lines[2] != "" {
		return fail(errors.New("does not begin with the times of the key"))
	}
	notBefore, errBefore := time.Parse(time.RFC3339, lines[0][len(notBeforeKey):])
	notAfter, errAfter := time.Parse(time.RFC3339, lines[1][len(notAfterKey):])
	if err := errors.Join(errBefore, errAfter); err != nil {
		return fail(fmt.Errorf("times of the key: %w", err))
	}
	if !notBefore.Before(notAfter) {
		return fail(errors.New("ends before it starts"))
	}
	return public, notBefore, notAfter, nil
}
