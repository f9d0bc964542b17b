package users

import (
	"hash/maphash"
	"sync"
	"time"
)

// How many wrong passwords a username may see: ten at once, and then one more each minute.
const (
	attemptsAtOnce  = 10
	attemptInterval = time.Minute
	attemptSlots    = 1 << 16
)

// attempts bounds how often passwords are tried for one username, whether there is such a user or not. It keeps a time for
// each of 65,536 slots and nothing else, so it cannot be made to grow or to forget: usernames share a slot by a hash that
// is another in each process, and very rarely one pays for another. Each replica counts for itself. Safe for concurrent use.
type attempts struct {
	seed maphash.Seed
	mu   sync.Mutex
	due  [attemptSlots]time.Duration // since start: when the slot is back to no attempts
}

func newAttempts() *attempts { return &attempts{seed: maphash.MakeSeed()} }

func (a *attempts) slot(username string) *time.Duration {
	return &a.due[maphash.String(a.seed, username)%attemptSlots]
}

// take counts an attempt, or tells how long to wait for the next one. now is a time since whenever, the same for all calls.
func (a *attempts) take(username string, now time.Duration) (wait time.Duration, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	due := a.slot(username)
	next := max(*due, now) + attemptInterval
	if wait := next - now - attemptsAtOnce*attemptInterval; wait > 0 {
		return wait, false
	}
	*due = next
	return 0, true
}

// giveBack takes back an attempt that turned out right, or was not made.
func (a *attempts) giveBack(username string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	*a.slot(username) -= attemptInterval
}
