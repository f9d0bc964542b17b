package exactlyonce

import (
	"errors"
	"fmt"
	"time"
)

// Defaults of Config.
const (
	DefaultKeep    = 24 * time.Hour
	DefaultLease   = 15 * time.Second
	DefaultMaxRows = 5_000_000
)

// maxLease is as long as any lease is, that of a saga included that waits for its next attempt.
const maxLease = 10 * time.Minute

// Config says where outcomes are stored, and for how long.
type Config struct {
	// DB is the database of the service, where its own rows are too.
	DB DB
	// Keep is how long an outcome is remembered, from when it was stored: 2 minutes to 90 days; zero is 24 hours. Some minutes
	// after that the same request_id is a new request, so clients must give up earlier. It is longer than a proof lives: what Cancel
	// has stored outlives the request that is on its way.
	Keep time.Duration
	// Lease is after what time another replica, or this one when it is started again, takes a saga over whose handler has
	// fallen silent: 100 ms to 10 minutes; zero is 15 seconds. It is renewed while the handler runs, and goes by the clock of
	// the database.
	Lease time.Duration
	// MaxRows is how many outcomes are remembered for the requests of one peer: 1 to 1,000,000,000; zero is 5,000,000, of
	// about half a kilobyte each, and of up to 64 more while a saga runs. The requests on behalf of one user take a tenth of it
	// at most, and Cancel may go as far as twice all of it. Each replica counts what it has stored itself and sees the rest when it
	// starts, so several may go beyond it.
	MaxRows int
}

func (c Config) withDefaults() (Config, error) {
	if c.DB == nil {
		return c, errors.New("exactlyonce: Config.DB is missing")
	}
	for _, d := range []struct {
		name          string
		value         *time.Duration
		usual, lo, hi time.Duration
	}{
		{"Keep", &c.Keep, DefaultKeep, 2 * time.Minute, 90 * 24 * time.Hour},
		{"Lease", &c.Lease, DefaultLease, 100 * time.Millisecond, maxLease},
	} {
		if *d.value == 0 {
			*d.value = d.usual
		}
		if *d.value < d.lo || *d.value > d.hi {
			return c, fmt.Errorf("exactlyonce: Config.%s is %v, want %v to %v", d.name, *d.value, d.lo, d.hi)
		}
	}
	if c.MaxRows == 0 {
		c.MaxRows = DefaultMaxRows
	}
	if c.MaxRows < 1 || c.MaxRows > 1_000_000_000 {
		return c, fmt.Errorf("exactlyonce: Config.MaxRows is %d, want 1 to 1,000,000,000", c.MaxRows)
	}
	return c, nil
}
