package pki

import (
	"crypto/x509"
	"fmt"
	"time"
)

// Revocation is an issuer that somebody stopped.
type Revocation struct {
	Generation  int
	Certificate *x509.Certificate // must not be changed
	KeySHA256   Digest            // of its public key: keySha256 in roles.yaml
	At          time.Time
	Reason      string
}

// Revoked returns every revoked issuer whose certificate is still on disk, oldest generation first. Those that expired
// leave with time, when 16 later ones are there.
func (s *Issuers) Revoked() []Revocation {
	state := s.state.Load()
	var out []Revocation
	for _, i := range state.issuers {
		if r, ok := state.stored.Revoked[i.Generation]; ok {
			out = append(out, Revocation{Generation: i.Generation, Certificate: i.Certificate,
				KeySHA256: keyDigest(i.Certificate), At: r.At, Reason: r.Reason})
		}
	}
	return out
}

// Activate lets a prepared issuer sign from now on, before its turn. For the one that signs already it does nothing.
// Every process that has the directory open follows at its next Refresh.
func (s *Issuers) Activate(generation int) (IssuerStatus, error) {
	err := s.locked(func() error {
		status, ok := s.status(generation)
		if !ok {
			return s.unknown(generation)
		}
		if status.State == Active {
			return nil
		}
		if err := s.checkActivation(status); err != nil {
			return err
		}
		return s.change(func(stored *storedState) { stored.activate(generation, s.now()) })
	})
	if err != nil {
		return IssuerStatus{}, fmt.Errorf("activate issuer %d: %w", generation, err)
	}
	status, _ := s.status(generation)
	return status, nil
}

func (s *storedState) activate(generation int, now time.Time) {
	if s.Activated == nil {
		s.Activated = map[int]time.Time{}
	}
	s.Activated[generation] = now.UTC()
}

// checkActivation tells why an issuer cannot be made to sign, with the next step.
func (s *Issuers) checkActivation(status IssuerStatus) error {
	now := s.now()
	switch status.State {
	case Revoked:
		return fmt.Errorf("it was revoked, which is for good; prepare a new one: %s", s.requestCommand())
	case Retired:
		return fmt.Errorf("it has no key any more (it ends at %s); prepare a new one: %s", utc(status.NotAfter), s.requestCommand())
	case Retiring:
		if r := s.state.Load().rotation; r.Phase == RotationActivated && status.RootSHA256 == certDigest(r.Old) {
			return fmt.Errorf("it is of the old root, and the new one (%s) is activated: its issuers sign", r.New.Subject)
		}
		return fmt.Errorf("it has handed over to a later one already; to go back to it, revoke the one that signs (rolecall pki issuer list --ca %s)", quote(s.dir))
	}
	if now.Before(status.Certificate.NotBefore) {
		return fmt.Errorf("it is valid from %s on, and the clock says %s; check the clock here and where the root signed it", utc(status.Certificate.NotBefore), utc(now))
	}
	if status.ActiveFrom.IsZero() {
		return fmt.Errorf("it is of the new root, whose issuers sign once that is activated: rolecall pki root rotate activate --ca %s", quote(s.dir))
	}
	return nil
}

// Revoke stops an issuer for good and deletes its key, and with it the keys of JWT-SVIDs made until then, which lie beside it
// under the same credential; the authority makes a new one within seconds. The reason is one line of 1 to 500 bytes for whoever asks later.
// For one that was revoked before it does nothing, and the first reason stays. The only issuer can be revoked as well:
// then nothing can be signed until there is another, and ActBy says so. Sources renew at once what it had signed.
func (s *Issuers) Revoke(generation int, reason string) (IssuerStatus, error) {
	err := checkReason(reason)
	if err == nil {
		err = s.locked(func() error { return s.revoke(generation, reason) })
	}
	if err != nil {
		return IssuerStatus{}, fmt.Errorf("revoke issuer %d: %w", generation, err)
	}
	status, _ := s.status(generation)
	return status, nil
}

func (s *Issuers) revoke(generation int, reason string) error {
	status, ok := s.status(generation)
	if !ok {
		return s.unknown(generation)
	}
	now := s.now()
	if status.State != Revoked {
		if !now.Before(status.NotAfter) {
			return fmt.Errorf("it expired at %s by itself, and so has everything under it: nothing is left to revoke", utc(status.NotAfter))
		}
		// The decision comes first: from then on nobody opens the key, also when this process dies before it is deleted.
		err := s.change(func(stored *storedState) {
			if stored.Revoked == nil {
				stored.Revoked = map[int]storedRevoked{}
			}
			stored.Revoked[generation] = storedRevoked{At: now.UTC(), Reason: reason}
			delete(stored.Activated, generation)
		})
		if err != nil {
			return err
		}
	}
	if err := s.dropJWTKeys(s.state.Load().suspectUntil(generation, now)); err != nil {
		return err
	}
	for _, i := range s.state.Load().issuers {
		if i.Generation == generation && i.keyOnDisk {
			return s.dropKey(i)
		}
	}
	return nil
}

// suspectUntil is the end of the time whose JWT keys a thief of the issuer's key may have: its revocation, in the whole seconds
// that keys count. A key of the same second is suspect while the issuer is being revoked, and the next one afterwards.
func (s *issuersState) suspectUntil(generation int, now time.Time) time.Time {
	if r, ok := s.stored.Revoked[generation]; ok {
		return r.At.Truncate(time.Second)
	}
	return now.Add(time.Second)
}

// stopped tells whether what this issuer signed is to be replaced at once: it was revoked, or its root is no longer in the
// bundle.
func (s *Issuers) stopped(issuer *x509.Certificate) bool {
	for _, i := range s.state.Load().issuers {
		if i.Certificate.Equal(issuer) {
			return i.revoked || i.root == nil
		}
	}
	return false
}

// unknown says that a generation is not there, and which are.
func (s *Issuers) unknown(generation int) error {
	var there []int
	for _, status := range s.Status() {
		there = append(there, status.Generation)
	}
	if r, ok := s.state.Load().stored.Revoked[generation]; ok {
		return fmt.Errorf("it was revoked at %s and is no longer on disk", utc(r.At))
	}
	return fmt.Errorf("there is no issuer %d; there are %v (rolecall pki issuer list --ca %s)", generation, there, quote(s.dir))
}

// utc is a time as messages have it.
func utc(t time.Time) string { return t.UTC().Format(time.RFC3339) }
