package rootrotation

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"example.com/rolecall/pki"
)

// Prepare lets the new root join the bundle. Repeated with the same proposal it does nothing. Until an issuer of the new root
// was made, another new root takes its place: the key of the first may be lost.
func Prepare(issuers *pki.Issuers, p Proposal) error {
	now := issuers.Rotation()
	if now.Phase == pki.RotationActivated && bytes.Equal(now.New.Raw, p.New.Raw) {
		return nil
	}
	return issuers.PrepareRoot(p.New, p.Cross)
}

// Activate lets an issuer of the new root sign from now on. With next, the new root at hand, such an issuer is made if there
// is none; without, it must have been imported. Repeated it does nothing. Without a cross certificate the caller must
// have asked ReadyToActivate first.
func Activate(issuers *pki.Issuers, next *pki.Root) error {
	now := issuers.Rotation()
	switch {
	case now.Phase == pki.NoRotation:
		return errors.New("no new root is prepared: begin with 'rolecall pki root rotate prepare'")
	case now.Phase == pki.RotationActivated:
		return nil
	case next != nil && !bytes.Equal(next.Certificate().Raw, now.New.Raw):
		return fmt.Errorf("the root that was named (SHA-256 %s) is not the one that was prepared (SHA-256 %s): name the folder of that one",
			Short(next.Certificate()), Short(now.New))
	}
	if err := issuers.Refresh(); err != nil { // whoever keeps the folder may have made one meanwhile
		return err
	}
	if next != nil && !hasIssuerOf(issuers, now.New) {
		if err := sign(issuers, next); err != nil {
			return fmt.Errorf("make an issuer of the new root: %w", err)
		}
	}
	return issuers.ActivateRoot()
}

// hasIssuerOf tells whether an issuer under the root can sign now or later.
func hasIssuerOf(issuers *pki.Issuers, root *x509.Certificate) bool {
	want := pki.Digest(sum(root))
	for _, i := range issuers.Status() {
		if i.RootSHA256 == want && (i.State == pki.Prepared || i.State == pki.Active) {
			return true
		}
	}
	return false
}

// sign has the root sign the next issuer, for a life as long as that of the newest one whose root did not cut it short.
func sign(issuers *pki.Issuers, root *pki.Root) error {
	life, old := pki.DefaultIssuerLife, issuers.Rotation().Old
	for _, i := range issuers.Status() {
		if i.NotAfter.Equal(old.NotAfter) {
			continue // it ends with the old root, which has cut it short
		}
		life = i.NotAfter.Sub(pki.IssuedAt(i.Certificate)).Round(time.Second)
	}
	csr, _, err := issuers.RequestIssuer()
	if err != nil {
		return err
	}
	cert, err := root.SignIssuerCSR(csr, life)
	if err != nil {
		return err
	}
	_, err = issuers.ImportIssuer(cert)
	return err
}

// Retire takes the old root out of the bundle if the examination, which was made just now, found nothing against it;
// otherwise the error is an *UnsafeError and nothing has changed.
func Retire(issuers *pki.Issuers, found *Examination) error {
	if len(found.Obstacles) > 0 {
		return &UnsafeError{Step: "retire", Obstacles: found.Obstacles}
	}
	return issuers.RetireRoot()
}

// Skip leaves identities out of the checks, for the record with reason and author. Each must be one that stands in the way
// in found: nobody is left out beforehand, for the list would outlive the reason. If one is not, none is left out. An
// identity that was left out already is no error.
func Skip(issuers *pki.Issuers, found *Examination, ids []string, reason, by string, now time.Time) error {
	rotation := issuers.Rotation()
	ids = slices.DeleteFunc(slices.Clone(ids), func(id string) bool {
		return slices.ContainsFunc(rotation.Skipped, func(s pki.Skip) bool { return s.ID == id && counts(s, rotation) })
	})
	for _, id := range ids {
		if id == "" || !slices.ContainsFunc(found.Obstacles, func(o Obstacle) bool { return o.ID == id }) {
			return fmt.Errorf("%s stands in nobody's way: only an identity that 'rolecall pki root rotate status' names can be left out", id)
		}
	}
	for _, id := range ids {
		if err := issuers.SkipInRotation(pki.Skip{ID: id, Reason: reason, By: by, At: now.UTC()}); err != nil {
			return err
		}
	}
	return nil
}

// Short returns the first 12 hex digits of the SHA-256 of a certificate, by which people compare two.
func Short(cert *x509.Certificate) string { return hex.EncodeToString(sum(cert)[:6]) }

func sum(cert *x509.Certificate) []byte {
	s := sha256.Sum256(cert.Raw)
	return s[:]
}
