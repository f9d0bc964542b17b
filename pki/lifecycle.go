package pki

import (
	"crypto"
	"crypto/x509"
	"time"
)

// State is where an issuer is in its life. It follows from the certificates and the wall clock alone, so that every
// process that reads the directory comes to the same answer, also after a sleep or a restart.
type State string

// The states of an issuer, in the order in which it passes through them.
const (
	Prepared State = "PREPARED" // signed and in place, signs nothing yet
	Active   State = "ACTIVE"   // signs
	Retiring State = "RETIRING" // signs no more; leaves under it are still alive
	Retired  State = "RETIRED"  // expired; its key is deleted
)

// Issuer is one generation of the key that signs leaves.
type Issuer struct {
	Generation  int
	Certificate *x509.Certificate
	key         crypto.Signer // nil once it is retired
}

// IssuerStatus is an issuer as it is at one moment.
type IssuerStatus struct {
	Generation  int               `json:"generation"`
	Subject     string            `json:"subject"`
	State       State             `json:"state"`
	ActiveFrom  time.Time         `json:"active_from"`  // when it starts to sign
	PrepareNext time.Time         `json:"prepare_next"` // when its successor is due
	NotAfter    time.Time         `json:"not_after"`
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

// activeFrom is when i takes over from the generation before it: at 5/6 of that one's life. Where the predecessor lives
// much longer (the operator shortened the lives), it is after a third of i's own, which is the same moment when both
// live equally long and the successor was made in time.
func (i *Issuer) activeFrom(before *Issuer) time.Time {
	if before == nil {
		return i.Certificate.NotBefore
	}
	own := IssuedAt(i.Certificate).Add(i.span() / 3)
	if at := before.handOver(); at.Before(own) {
		return at
	}
	return own
}

// states returns the state of each issuer (oldest generation first) at now, and the one that signs, nil if none can.
func states(issuers []*Issuer, now time.Time) ([]IssuerStatus, *Issuer) {
	var active *Issuer
	valid := func(i *Issuer) bool {
		return i.key != nil && !now.Before(i.Certificate.NotBefore) && now.Before(i.Certificate.NotAfter)
	}
	from := func(n int) time.Time {
		if n == 0 {
			return issuers[n].activeFrom(nil)
		}
		return issuers[n].activeFrom(issuers[n-1])
	}
	for n, i := range issuers {
		// An issuer whose turn has not come still signs when there is no other.
		if valid(i) && (active == nil || !now.Before(from(n))) {
			active = i
		}
	}
	out := make([]IssuerStatus, len(issuers))
	for n, i := range issuers {
		s := IssuerStatus{Generation: i.Generation, Subject: i.Certificate.Subject.String(), State: Prepared,
			ActiveFrom: from(n), PrepareNext: i.prepareNext(), NotAfter: i.Certificate.NotAfter, Certificate: i.Certificate}
		switch {
		case !now.Before(i.Certificate.NotAfter):
			s.State = Retired
		case i == active:
			s.State = Active
		case active != nil && i.Generation < active.Generation:
			s.State = Retiring
		}
		out[n] = s
	}
	return out, active
}

// rotationDue tells whether a further issuer is to be made at now: none is there, the newest is past half of its life, or
// it was made for another life than the one asked for. A root that ends first cannot give it a longer life.
func rotationDue(issuers []*Issuer, life time.Duration, root *x509.Certificate, now time.Time) bool {
	if len(issuers) == 0 {
		return true
	}
	newest := issuers[len(issuers)-1]
	if newest.Certificate.NotAfter.Equal(root.NotAfter) {
		return !now.Before(newest.Certificate.NotAfter)
	}
	if !now.Before(newest.prepareNext()) {
		return true
	}
	wanted := life + backdate(life)
	return (newest.span() - wanted).Abs() > 2*time.Second
}
