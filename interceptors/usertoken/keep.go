package usertoken

import "time"

// keep looks, until the verifier is closed, at what gets old. Each issuer is asked for keys in a goroutine of its own: one
// that does not answer holds up nothing, and least of all the look at who signed the own keys.
func (v *verifier) keep() {
	if v.own != nil {
		v.running.Go(func() {
			v.reload(v.ownRing, func() (time.Duration, bool) {
				wait, due := v.own.due()
				return max(v.pace.file, wait), due
			})
		})
	}
	for _, o := range v.others {
		v.running.Go(func() {
			v.reload(o.ring, func() (time.Duration, bool) {
				if o.keys.client == nil || o.keys.set.Load() == nil {
					return v.pace.file, true
				}
				return v.pace.reload, true
			})
		})
	}
	v.running.Go(v.sweep)
}

// sweep drops keys whose signer is no longer trusted, and forgets what has expired.
func (v *verifier) sweep() {
	tick := time.NewTicker(v.pace.tick)
	defer tick.Stop()
	for round := 0; ; round++ {
		if v.own != nil {
			v.own.recheck()
		}
		if round%16 == 15 {
			now := v.env.Now()
			v.revoked.forget(now)
			v.cache.sweep(now.Add(-v.cfg.Leeway))
		}
		select {
		case <-v.ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// reload reads keys anew whenever that is due and the last time is that long ago.
func (v *verifier) reload(ring *keyring, when func() (every time.Duration, due bool)) {
	tick := time.NewTicker(v.pace.tick)
	defer tick.Stop()
	var asked time.Time
	failing := false
	for {
		if every, due := when(); due && (asked.IsZero() || time.Since(asked) >= every) {
			asked = time.Now()
			err := ring.refetch()
			if v.ctx.Err() != nil {
				return
			}
			if err != nil && !failing {
				v.env.Log.Warn("keys that user tokens are verified with could not be read", "error", err)
			}
			failing = err != nil
		}
		select {
		case <-v.ctx.Done():
			return
		case <-tick.C:
		}
	}
}
