package pki

import (
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Phase is how far the replacement of a root is.
type Phase string

// The phases of a rotation, in their order. After the retirement there is none again.
const (
	NoRotation        Phase = ""
	RotationPrepared  Phase = "PREPARED"  // both roots are in the bundle; issuers of the old one sign
	RotationActivated Phase = "ACTIVATED" // issuers of the new root sign; the old root is still in the bundle
)

// Rotation is the replacement of a root as it stands. Its certificates must not be changed.
type Rotation struct {
	Phase       Phase
	Old, New    *x509.Certificate // never nil while Phase is not NoRotation
	PreparedAt  time.Time
	ActivatedAt time.Time
	Skipped     []Skip // what the operator said need not be waited for
}

// Skip is somebody whom the retirement of a root does not wait for, because an operator said so.
type Skip struct {
	ID     string    `json:"id"` // SPIFFE ID
	Reason string    `json:"reason"`
	By     string    `json:"by"` // SPIFFE ID or name of the operator
	At     time.Time `json:"at"`
}

// storedRotation is the rotation in state.json. The certificates stand there as well, because the files that hold them
// change while a step is taken.
type storedRotation struct {
	Phase       Phase     `json:"phase"`
	OldSHA256   Digest    `json:"old_sha256"`
	NewSHA256   Digest    `json:"new_sha256"`
	Old         []byte    `json:"old"` // DER
	New         []byte    `json:"new"`
	PreparedAt  time.Time `json:"prepared_at"`
	ActivatedAt time.Time `json:"activated_at,omitzero"`
	Skipped     []Skip    `json:"skipped,omitempty"`
}

// ErrNoRotation is what the steps of a rotation answer when none has been prepared.
var ErrNoRotation = errors.New("no root is being replaced")

// check makes sure that read can follow.
func (r *storedRotation) check() error {
	if r.Phase != RotationPrepared && r.Phase != RotationActivated {
		return fmt.Errorf("phase %q is unknown", r.Phase)
	}
	_, err := r.read()
	return err
}

func (r *storedRotation) read() (Rotation, error) {
	if r == nil {
		return Rotation{}, nil
	}
	out := Rotation{Phase: r.Phase, PreparedAt: r.PreparedAt, ActivatedAt: r.ActivatedAt, Skipped: slices.Clone(r.Skipped)}
	for _, c := range []struct {
		der  []byte
		want Digest
		to   **x509.Certificate
	}{{r.Old, r.OldSHA256, &out.Old}, {r.New, r.NewSHA256, &out.New}} {
		cert, err := x509.ParseCertificate(c.der)
		if err != nil {
			return Rotation{}, err
		}
		if certDigest(cert) != c.want {
			return Rotation{}, fmt.Errorf("the certificate of root %s is not the one whose SHA-256 is %s", cert.Subject, c.want)
		}
		*c.to = cert
	}
	return out, nil
}

// skip adds to those who are not waited for; the latest word about an ID counts.
func (r *storedRotation) skip(skip Skip) {
	r.Skipped = slices.DeleteFunc(r.Skipped, func(s Skip) bool { return s.ID == skip.ID })
	r.Skipped = append(r.Skipped, skip)
}

// standing tells how an issuer of this root stands in the rotation.
func (r Rotation) standing(root *x509.Certificate) standing {
	switch {
	case root == nil || r.Phase == NoRotation:
		return current
	case r.Phase == RotationPrepared && root.Equal(r.New):
		return incoming
	case r.Phase == RotationActivated && !root.Equal(r.New):
		return outgoing
	}
	return current
}

// HasCross tells whether chains of the new root's issuers carry a cross certificate now, so that whoever knows the old root
// alone accepts them.
func (s *Issuers) HasCross() bool {
	state, now := s.state.Load(), s.now()
	r := state.rotation
	return r.Phase != NoRotation && slices.ContainsFunc(state.cross, func(c *x509.Certificate) bool {
		return lintCross(c, r.New, r.Old) == nil && !now.Before(c.NotBefore) && now.Before(c.NotAfter)
	})
}

// Rotation returns the replacement of a root that is under way, if any.
func (s *Issuers) Rotation() Rotation { return s.state.Load().rotation }
