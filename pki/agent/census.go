package agent

import (
	"fmt"
	"sync"
)

// Bounds of what may be open at one time. One user never has more than half of all, so that he shuts out nobody; one
// process has what any program needs.
const (
	maxConnections           = 24576 // or what the limit of open files leaves
	maxConnectionsPerProcess = 256
	maxStreams               = 32768
	defaultStreamsPerProcess = 256
	sparedFiles              = 256 // open files that connections never take: for the control socket, the authority, entries
)

// census bounds what each process, each user and all of them together have open of one kind. Safe for concurrent use.
type census struct {
	what            string
	all, user, each int
	mu              sync.Mutex
	total           int
	ofUser          map[uint32]int
	ofProcess       map[process]int
}

// newCensus counts what is called so: all of them at most, half for one user, each for one process.
func newCensus(what string, all, each int) *census {
	return &census{what: what, all: all, user: (all + 1) / 2, each: each, ofUser: map[uint32]int{}, ofProcess: map[process]int{}}
}

// admit counts one more, or says why there may be no more.
func (c *census) admit(p peer) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.ofProcess[p.process] >= c.each:
		return fmt.Errorf("process %d has %d %s open, which is all that one process may have", p.pid, c.each, c.what)
	case c.ofUser[p.uid] >= c.user:
		return fmt.Errorf("user %d has %d %s open, which is all that one user may have", p.uid, c.user, c.what)
	case c.total >= c.all:
		return fmt.Errorf("%d %s are open, which is all that the agent serves", c.all, c.what)
	}
	c.total++
	c.ofUser[p.uid]++
	c.ofProcess[p.process]++
	return nil
}

// release takes back what admit counted.
func (c *census) release(p peer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.total--
	if c.ofUser[p.uid]--; c.ofUser[p.uid] == 0 {
		delete(c.ofUser, p.uid)
	}
	if c.ofProcess[p.process]--; c.ofProcess[p.process] == 0 {
		delete(c.ofProcess, p.process)
	}
}

// count returns how many are open.
func (c *census) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.total
}
