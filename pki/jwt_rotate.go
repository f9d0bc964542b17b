package pki

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// RotateJWT makes the next JWT key when the newest is past half of its life, and deletes expired ones, by the wall clock:
// calling it too often does nothing, calling it late does then what was due. No root is needed. A key lives as long as the
// active issuer. The authority calls it when it starts and every few seconds.
func (s *Issuers) RotateJWT() error {
	if err := s.Refresh(); err != nil {
		return err
	}
	if now := s.now(); !s.state.Load().jwt.due(now) && len(s.state.Load().jwt.surplus(now)) == 0 {
		return nil
	}
	// Another process may come to the same conclusion at the same moment: look again under the lock.
	if err := s.locked(s.rotateJWT); err != nil {
		return fmt.Errorf("rotate JWT keys: %w", err)
	}
	return nil
}

func (s *Issuers) rotateJWT() error {
	state, now := s.state.Load(), s.now()
	for _, key := range state.jwt.surplus(now) {
		if err := os.Remove(s.jwtPath(key.generation)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if !state.jwt.due(now) {
		return nil
	}
	key, err := s.newJWTKey(state)
	if err != nil {
		return err
	}
	private, err := s.sealKey(key.key)
	if err != nil {
		return err
	}
	data, err := encodeJWTKey(key, private)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(s.dir, jwtDir), 0o700); err != nil {
		return err
	}
	return s.addJWTKey(key, data)
}

// addJWTKey writes a key's file. It puts the key into the state as well, so that the next read need not open it.
func (s *Issuers) addJWTKey(key *jwtKey, data []byte) error {
	path := s.jwtPath(key.generation)
	if err := createFile(path, data, 0o600); err != nil {
		return err
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	next := *s.state.Load()
	next.jwt = jwtState{keys: append(slices.Clone(next.jwt.keys), key), files: maps.Clone(next.jwt.files)}
	next.jwt.files[path] = fileStamp{info.ModTime(), info.Size()}
	s.state.Store(&next)
	return nil
}

// dropJWTKeys deletes the keys that were made before a moment.
func (s *Issuers) dropJWTKeys(until time.Time) error {
	for _, key := range s.state.Load().jwt.keys {
		if !key.made().Before(until) {
			continue
		}
		if err := remove(s.jwtPath(key.generation)); err != nil {
			return err
		}
	}
	return nil
}

func (s *Issuers) newJWTKey(state *issuersState) (*jwtKey, error) {
	now, life := s.now(), DefaultIssuerLife
	if _, active := states(state.issuers, now); active != nil {
		life = active.span()
	}
	key, err := NewKey()
	if err != nil {
		return nil, err
	}
	signer, id, err := newTokenSigner(key)
	if err != nil {
		return nil, err
	}
	generation := 1
	if n := len(state.jwt.keys); n > 0 {
		generation = state.jwt.keys[n-1].generation + 1
	}
	notBefore, notAfter := validity(now, life) // whole seconds, as the file has them
	return &jwtKey{generation: generation, id: id, key: key, signer: signer, notBefore: notBefore, notAfter: notAfter}, nil
}

func (s *Issuers) jwtPath(generation int) string {
	return filepath.Join(s.dir, jwtDir, fmt.Sprintf("%04d.pem", generation))
}
