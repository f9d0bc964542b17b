package keys

import (
	"fmt"
	"time"
)

// Config changes what New makes. The zero value is right for production.
type Config struct {
	// PerIdentity is how many keys of one workload are kept, 0: 1024. One more takes the place of the one that ends first: each
	// replica has one, and two around a rotation. With long chains there are fewer, as many as fit into an answer of 3.5 MiB.
	PerIdentity int
	// Identities is how many workloads have keys at once, 0: 100,000. One more is refused with RESOURCE_EXHAUSTED.
	Identities int
	// Watchers is how many streams one workload has at once, 0: 16. One more is refused with RESOURCE_EXHAUSTED.
	Watchers int
	// Heartbeat is how often a stream shows that it is alive, 0: 5 s.
	Heartbeat time.Duration
	// Poll is how often a replica looks for what others were told, in PostgreSQL; 0: 200 ms.
	Poll time.Duration
	// Now is the clock; nil: time.Now.
	Now func() time.Time
}

func (c Config) withDefaults() (Config, error) {
	for _, n := range []struct {
		name  string
		value *int
		zero  int
	}{{"PerIdentity", &c.PerIdentity, 1024}, {"Identities", &c.Identities, 100_000}, {"Watchers", &c.Watchers, 16}} {
		if *n.value == 0 {
			*n.value = n.zero
		}
		if *n.value < 0 {
			return c, fmt.Errorf("keys: %s of %d: it must not be negative", n.name, *n.value)
		}
	}
	for _, d := range []struct {
		name  string
		value *time.Duration
		zero  time.Duration
	}{{"Heartbeat", &c.Heartbeat, 5 * time.Second}, {"Poll", &c.Poll, 200 * time.Millisecond}} {
		if *d.value == 0 {
			*d.value = d.zero
		}
		if *d.value < 0 {
			return c, fmt.Errorf("keys: %s of %s: it must not be negative", d.name, *d.value)
		}
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return c, nil
}
