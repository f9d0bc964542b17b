package pki

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
)

// add writes a new generation. The caller holds the lock.
func (s *Issuers) add(i *Issuer) error {
	key, err := s.sealKey(i.key)
	if err != nil {
		return err
	}
	return s.addSealed(i, key)
}

// addSealed is add for a key that is encrypted already; i.key is the same in the clear.
func (s *Issuers) addSealed(i *Issuer, key []byte) error {
	next := *s.state.Load()
	read := *i
	read.keyOnDisk = true
	path := s.issuerPath(i.Generation)
	if err := read.place(path, &next); err != nil {
		return err
	}
	if err := createFile(path, append(encodeCertificates(i.Certificate), key...), 0o600); err != nil {
		return fmt.Errorf("write issuer: %w", err)
	}
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("write issuer: %w", err)
	}
	next.issuers = append(slices.Clone(next.issuers), &read)
	slices.SortFunc(next.issuers, byGeneration)
	next.files = maps.Clone(next.files)
	next.files[path] = fileStamp{info.ModTime(), info.Size()} // the key is known: load need not open it
	s.state.Store(&next)
	return nil
}

func byGeneration(a, b *Issuer) int { return a.Generation - b.Generation }

// nextGeneration is one after all that were ever there: state.json may remember some whose files are gone.
func (s *Issuers) nextGeneration() (int, error) {
	state, last := s.state.Load(), 0
	if len(state.issuers) >= maxIssuers {
		return 0, fmt.Errorf("%d issuers are in %s, and no more are read; remove the files of expired ones", len(state.issuers), filepath.Join(s.dir, issuersDir))
	}
	for _, i := range state.issuers {
		last = max(last, i.Generation)
	}
	for generation := range state.stored.Activated {
		last = max(last, generation)
	}
	for generation := range state.stored.Revoked {
		last = max(last, generation)
	}
	paths, err := s.requestFiles()
	if err != nil {
		return 0, err
	}
	for _, path := range paths {
		generation, err := generationOf(path, requestSuffix)
		if err != nil {
			return 0, err
		}
		last = max(last, generation)
	}
	return last + 1, nil
}
