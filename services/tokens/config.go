package tokens

import (
	"errors"
	"fmt"
	"time"
)

// maxAccessLife is how long an access token lives at most.
const maxAccessLife = 10 * time.Minute

// Config changes what New makes. The zero value is right for production. All replicas have the same.
type Config struct {
	// AccessLife is how long an access token lives: 1 second to 10 minutes, in whole seconds; 0: 10 minutes. Verifiers take
	// none that lives longer than 10 minutes.
	AccessLife time.Duration
	// IdleLife is how long a session lasts that is not refreshed, 0: 30 days; SessionLife how long any does, 0: 90 days.
	IdleLife, SessionLife time.Duration
	// Grace is how long a used refresh token gives the same successor again, as after an answer that was lost; 0: 10 s.
	Grace time.Duration
	// KeyLife is how long one key signs access tokens, 0: 12 hours; KeyOverlap how long the next one is published before it
	// signs, 0: 1 minute. KeyOverlap is the shorter one.
	KeyLife, KeyOverlap time.Duration
	// Heartbeat is how often a stream of revocations shows that it is alive, 0: 5 s. Verifiers give up on one after 15 s.
	Heartbeat time.Duration
	// Poll is how often a replica looks for what others have revoked, in PostgreSQL; 0: 200 ms.
	Poll time.Duration
	// Now is the clock; nil: time.Now.
	Now func() time.Time
}

func (c Config) withDefaults() (Config, error) {
	for _, d := range []struct {
		name  string
		value *time.Duration
		zero  time.Duration
	}{
		{"AccessLife", &c.AccessLife, maxAccessLife},
		{"IdleLife", &c.IdleLife, 30 * 24 * time.Hour},
		{"SessionLife", &c.SessionLife, 90 * 24 * time.Hour},
		{"Grace", &c.Grace, 10 * time.Second},
		{"KeyLife", &c.KeyLife, 12 * time.Hour},
		{"KeyOverlap", &c.KeyOverlap, time.Minute},
		{"Heartbeat", &c.Heartbeat, 5 * time.Second},
		{"Poll", &c.Poll, 200 * time.Millisecond},
	} {
		if *d.value == 0 {
			*d.value = d.zero
		}
		if *d.value < 0 {
			return c, fmt.Errorf("tokens: %s of %s: it must not be negative", d.name, *d.value)
		}
	}
	if c.AccessLife < time.Second || c.AccessLife > maxAccessLife || c.AccessLife%time.Second != 0 {
		return c, fmt.Errorf("tokens: AccessLife of %s: whole seconds from 1 s to 10 min are possible", c.AccessLife)
	}
	if c.KeyOverlap >= c.KeyLife {
		return c, errors.New("tokens: KeyOverlap must be shorter than KeyLife")
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return c, nil
}
