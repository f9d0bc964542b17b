package pki

import (
	"crypto"
	"crypto/x509"
	"time"
)

// State is where an issuer is in its life. It follows from the files of the authority's directory and the wall clock
// alone, so that every process that reads the directory comes to the same answer, also after a sleep or a restart.
type State string

// The states of an issuer, in the order in which it passes through them.
const (
	Prepared State = "PREPARED" // signed and in place, signs nothing yet
	Active   State = "ACTIVE"   // signs
	Retiring State = "RETIRING" // signs no more; leaves under it are still alive
	Retired  State = "RETIRED"  // expired, or its root has left the bundle; its key is deleted
	Revoked  State = "REVOKED"  // stopped by hand; its key is deleted
)

// standing is whether an issuer belongs to the root that signs now. Without a rotation every issuer does.
type standing int

const (
	current  standing = iota
	incoming          // of the new root, before it is activated
	outgoing          // of the old root, after the new one was activated
)

// Issuer is one generation of the key that signs leaves.
type Issuer struct {
	Generation  int
	Certificate *x509.Certificate

	key       crypto.Signer       // nil once it is retired or revoked
	keyOnDisk bool                // also of one that is not opened any more
	root      *x509.Certificate   // nil once it has left the bundle
	cross     []*x509.Certificate // what chains carry beside the issuer
	standing  standing
	activated time.Time // by hand, or with its root; zero: by the plan
	revoked   bool
}

// IssuerStatus is an issuer as it is at one moment.
type IssuerStatus struct {
	Generation  int               `json:"generation"`
	Subject     string            `json:"subject"`
	State       State             `json:"state"`
	ActiveFrom  time.Time         `json:"active_from,omitzero"` // when it starts to sign; zero: with the activation of its root
	PrepareNext time.Time         `json:"prepare_next"`         // when its successor is due
	NotAfter    time.Time         `json:"not_after"`
	KeySHA256   Digest            `json:"key_sha256"`           // of its public key: keySha256 in roles.yaml
	RootSHA256  Digest            `json:"root_sha256,omitzero"` // of its root's certificate; zero: that has left the bundle
	Certificate *x509.Certificate `json:"-"`
}

func (i *Issuer) span() time.Duration {
	return i.Certificate.NotAfter.Sub(i.Certificate.NotBefore)
}

// prepareNext is half of its life: then the successor is made.
func (i *Issuer) prepareNext() time.Time {
	return i.Certificate.NotBefore.Add(i.span() / 2)
}

// handOver is 5/6 of its life: a leaf lives a sixth of it, so the last one signed ends with the issuer.
func (i *Issuer) handOver() time.Time {
	return i.Certificate.NotBefore.Add(i.span() * 5 / 6)
}

// usable tells that i can sign now or later.
func (i *Issuer) usable(now time.Time) bool {
	return i.key != nil && !i.revoked && now.Before(i.Certificate.NotAfter)
}

// valid tells that i can sign now.
func (i *Issuer) valid(now time.Time) bool {
	return i.usable(now) && !now.Before(i.Certificate.NotBefore)
}

// activeFrom is when i takes over from the generation before it: at 5/6 of that one's life. Where the predecessor lives
// much longer (the operator shortened the lives), it is after a third of i's own, which is the same moment when both
// live equally long and the successor was made in time. Somebody may have said so earlier.
func (i *Issuer) activeFrom(before *Issuer) time.Time {
	at := i.Certificate.NotBefore
	if before != nil {
		at = IssuedAt(i.Certificate).Add(i.span() / 3)
		if handOver := before.handOver(); handOver.Before(at) {
			at = handOver
		}
	}
	if !i.activated.IsZero() && (before == nil || i.activated.Before(at)) {
		at = i.activated
	}
	return at
}

// predecessor is the issuer that issuers[n] takes over from: the one before it under the same root that nobody revoked.
func predecessor(issuers []*Issuer, n int) *Issuer {
	for p := n - 1; p >= 0; p-- {
		if !issuers[p].revoked && issuers[p].root == issuers[n].root {
			return issuers[p]
		}
	}
	return nil
}

// activeIssuer returns the issuer that signs at now, nil if none can. One whose turn has not come still signs when there
// is no other, and so does one of the other root of a rotation.
func activeIssuer(issuers []*Issuer, now time.Time) *Issuer {
	var active, stopgap *Issuer
	for n, i := range issuers {
		if !i.valid(now) {
			continue
		}
		best := &active
		if i.standing != current {
			best = &stopgap
		}
		if *best == nil || !now.Before(i.activeFrom(predecessor(issuers, n))) {
			*best = i
		}
	}
	if active == nil {
		return stopgap
	}
	return active
}

// states returns the state of each issuer (oldest generation first) at now, and the one that signs, nil if none can.
func states(issuers []*Issuer, now time.Time) ([]IssuerStatus, *Issuer) {
	active := activeIssuer(issuers, now)
	out := make([]IssuerStatus, len(issuers))
	for n, i := range issuers {
		s := IssuerStatus{Generation: i.Generation, Subject: i.Certificate.Subject.String(), State: Prepared,
			PrepareNext: i.prepareNext(), NotAfter: i.Certificate.NotAfter, KeySHA256: keyDigest(i.Certificate), Certificate: i.Certificate}
		if i.root != nil {
			s.RootSHA256 = certDigest(i.root)
		}
		if i.standing != incoming || i == active {
			s.ActiveFrom = i.activeFrom(predecessor(issuers, n))
		}
		switch {
		case i.revoked:
			s.State = Revoked
		case !i.usable(now):
			s.State = Retired
		case i == active:
			s.State = Active
		case i.standing == outgoing, active != nil && i.standing == active.standing && i.Generation < active.Generation:
			s.State = Retiring
		}
		out[n] = s
	}
	return out, active
}

// rotationDue tells whether the root is to sign a further issuer at now: none of its own can sign, the newest that can is
// past half of its life, or it was made for another life than the one asked for. A root that ends first cannot give it a
// longer life, and one that is not valid yet cannot help: the clock was set back. Issuers that start later than now were
// made while the clock ran ahead, and do not count.
func rotationDue(issuers []*Issuer, life time.Duration, root *x509.Certificate, now time.Time) bool {
	if now.Before(root.NotBefore) {
		return false
	}
	var newest *Issuer
	for _, i := range issuers {
		if i.valid(now) && (i.root == nil || i.root.Equal(root)) {
			newest = i
		}
	}
	switch {
	case newest == nil:
		return true
	case newest.Certificate.NotAfter.Equal(root.NotAfter):
		return false
	case !now.Before(newest.prepareNext()):
		return true
	}
	wanted := life + backdate(life)
	return (newest.span() - wanted).Abs() > 2*time.Second
}
