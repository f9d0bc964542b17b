package pki

import (
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"time"
)

// ActivateRoot lets the newest valid issuer of the new root sign from now on; without one it refuses. Done twice it does
// nothing.
func (s *Issuers) ActivateRoot() error {
	err := s.locked(func() error {
		rotation, now := s.state.Load().rotation, s.now()
		switch rotation.Phase {
		case NoRotation:
			return fmt.Errorf("%w; start with: rolecall pki root rotate prepare --ca %s", ErrNoRotation, quote(s.dir))
		case RotationActivated:
			return nil
		}
		issuer, err := s.issuerOf(rotation.New)
		if err != nil {
			return err
		}
		return s.change(func(stored *storedState) {
			stored.Rotation.Phase, stored.Rotation.ActivatedAt = RotationActivated, now.UTC()
			stored.activate(issuer.Generation, now)
		})
	})
	if err != nil {
		return fmt.Errorf("activate root: %w", err)
	}
	return nil
}

// issuerOf returns the newest issuer of a root that can sign now.
func (s *Issuers) issuerOf(root *x509.Certificate) (*Issuer, error) {
	var found *Issuer
	for _, i := range s.state.Load().issuers {
		if i.valid(s.now()) && i.root.Equal(root) {
			found = i
		}
	}
	if found == nil {
		return nil, fmt.Errorf("no issuer of the new root %s can sign; first %s", root.Subject, s.issuerCommands())
	}
	return found, nil
}

// RetireRoot takes the old root out of the bundle: the keys of its issuers are deleted, and the cross certificate goes.
// Whether every verifier knows the new root is for the caller to have found out. After a crash the same call completes the
// step. Without a rotation the error is ErrNoRotation.
func (s *Issuers) RetireRoot() error {
	err := s.locked(func() error {
		state := s.state.Load()
		switch state.rotation.Phase {
		case NoRotation:
			return ErrNoRotation
		case RotationPrepared:
			return fmt.Errorf("issuers of the old root still sign; first: rolecall pki root rotate activate --ca %s", quote(s.dir))
		}
		if _, err := s.issuerOf(state.rotation.New); err != nil {
			return err
		}
		return s.retireRoot(state)
	})
	if err != nil {
		return fmt.Errorf("retire root: %w", err)
	}
	return nil
}

// retireRoot writes the files in an order in which every reader finds issuers with a key under roots of the bundle only.
// state.json comes last: until then the step has not been taken, and can be repeated.
func (s *Issuers) retireRoot(state *issuersState) error {
	for _, i := range state.issuers {
		if i.root != nil && i.root.Equal(state.rotation.Old) && i.keyOnDisk {
			if err := s.dropKey(i); err != nil {
				return err
			}
		}
	}
	if err := s.writeRoots(without(state.bundle.X509Authorities(), state.rotation.Old)); err != nil {
		return err
	}
	if err := remove(filepath.Join(s.dir, crossFile)); err != nil {
		return err
	}
	return s.change(func(stored *storedState) { stored.Rotation = nil })
}

// maxSkipped bounds what is kept about those who are left out, in bytes of JSON: state.json must have room for what is more
// urgent, a revocation above all.
const maxSkipped = maxFile / 4

// SkipInRotation notes that the retirement need not wait for somebody, who said so and why. The latest word about an ID
// counts.
func (s *Issuers) SkipInRotation(skip Skip) error {
	if err := errors.Join(checkLine("ID", skip.ID), checkLine("operator", skip.By), checkReason(skip.Reason)); err != nil {
		return fmt.Errorf("skip in rotation: %w", err)
	}
	skip.At = skip.At.UTC().Round(time.Second)
	err := s.locked(func() error {
		rotation := s.state.Load().rotation
		if rotation.Phase == NoRotation {
			return ErrNoRotation
		}
		if data, err := json.Marshal(append(rotation.Skipped, skip)); err != nil || len(data) > maxSkipped {
			return errors.Join(fmt.Errorf("more than %d bytes are left out: too many to be exceptions; find out what they have in common", maxSkipped), err)
		}
		return s.change(func(stored *storedState) { stored.Rotation.skip(skip) })
	})
	if err != nil {
		return fmt.Errorf("skip %s in rotation: %w", skip.ID, err)
	}
	return nil
}
