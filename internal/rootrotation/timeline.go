package rootrotation

import (
	"encoding/hex"
	"fmt"
	"time"

	"example.com/rolecall/pki"
)

// Event is one point of the plan.
type Event struct {
	// At is when it was or can be at the earliest.
	At   time.Time `json:"at"`
	Step string    `json:"step"` // prepare, activate, retire; "" for what happens in between by itself
	What string    `json:"what"`
	Done bool      `json:"done"`
}

// The authority's refresh hint, as far as it is not known from itself: a tenth of a leaf's life, a minute at most.
const (
	longestHint  = time.Minute
	shortestHint = time.Second
)

// Timeline says what happens when, from the phase that the folder is in, if each step is taken as soon as it may be. It asks
// nobody; what the mesh says can only make it later.
func Timeline(issuers *pki.Issuers, now time.Time) ([]Event, error) {
	live, err := issuers.LiveRecords(now)
	if err != nil {
		return nil, err
	}
	return timeline(issuers.Rotation(), live, longest(issuers, live), now), nil
}

// longest returns how long leaves live here.
func longest(issuers *pki.Issuers, live []pki.Record) time.Duration {
	var life time.Duration
	for _, r := range live {
		life = max(life, r.NotAfter.Sub(r.Issued))
	}
	if life > 0 {
		return life
	}
	for _, i := range issuers.Status() {
		life = max(life, i.NotAfter.Sub(pki.IssuedAt(i.Certificate))/6)
	}
	return life
}

func timeline(r pki.Rotation, live []pki.Record, life time.Duration, now time.Time) []Event {
	hint := min(longestHint, max(shortestHint, life/10)).Round(time.Second)
	prepared := Event{At: now, Step: "prepare", What: "the new root joins the bundle; nothing is signed with it yet"}
	if r.Phase != pki.NoRotation {
		prepared.At, prepared.Done = r.PreparedAt, true
	}
	activated := Event{At: latest(now, prepared.At.Add(hint)), Step: "activate",
		What: "an issuer of the new root signs; chains carry the cross certificate"}
	if r.Phase == pki.RotationActivated {
		activated.At, activated.Done = r.ActivatedAt, true
	}
	ended := activated.At.Add(life)
	if activated.Done {
		ended = lastUnder(r, live, activated.At)
	}
	retire := latest(now, ended, activated.At.Add(hints*hint))
	return []Event{
		prepared,
		{At: prepared.At.Add(hint), What: fmt.Sprintf("every agent has read the new bundle (refresh hint %s), and every service has it", hint), Done: passed(now, prepared, hint)},
		activated,
		{At: ended, What: "the last certificate under the old root has ended; each is renewed at half of its life", Done: activated.Done && !now.Before(ended)},
		{At: retire, Step: "retire", What: "the old root leaves the bundle, if nobody is missing"},
	}
}

func passed(now time.Time, e Event, wait time.Duration) bool {
	return e.Done && !now.Before(e.At.Add(wait))
}

// lastUnder returns when the last recorded certificate that is not under the new root ends.
func lastUnder(r pki.Rotation, live []pki.Record, since time.Time) time.Time {
	end, fresh := since, hex.EncodeToString(sum(r.New))
	for _, record := range live {
		if record.RootSHA256 != fresh {
			end = latest(end, record.NotAfter)
		}
	}
	return end
}

func latest(times ...time.Time) time.Time {
	var last time.Time
	for _, t := range times {
		if t.After(last) {
			last = t
		}
	}
	return last
}
