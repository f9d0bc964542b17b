package authority

import (
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"example.com/rolecall/pki"
)

// OpenOn is Open with issuers that are open already: their keys take a second or two each to open where races are looked
// for.
func OpenOn(issuers *pki.Issuers, cfg Config) (*Authority, error) { return openOn(issuers, cfg) }

// Issuers returns what the authority signs with.
func (a *Authority) Issuers() *pki.Issuers { return a.issuers }

// ParseRegistrations reads registrations.yaml.
var ParseRegistrations = parseRegistrations

// Renumber gives the bundle a new number and tells all who watch, without waiting for the directory to be read.
func (a *Authority) Renumber() error {
	if err := a.issuers.BumpSequence(); err != nil {
		return err
	}
	return a.publish()
}

// Renewals paces those who renew themselves; MaxPaced is how many it remembers.
type Renewals = renewals

const MaxPaced = maxPaced

// Take is one renewal.
func (r *renewals) Take(id spiffeid.ID, now time.Time) bool { return r.take(id, now) }

// Len is how many identities are remembered.
func (r *renewals) Len() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.paid)
}

// Exhaust takes all the renewals that an identity has, and those of the next minute.
func (a *Authority) Exhaust(id spiffeid.ID) {
	for now := time.Now().Add(time.Minute); a.renewals.take(id, now); {
	}
}
