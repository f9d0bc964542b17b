// Package watch helps streams that tell of changes in a database: a Bell wakes them, Poll rings it for changes of other replicas,
// Run ends them, and Epochs know which sequence numbers still mean something.
package watch

import "sync"

// Bell wakes streams when there is something new in the database. It passes nothing on: a stream reads for itself, so it
// misses nothing and needs no buffer. Safe for concurrent use.
type Bell struct {
	mu   sync.Mutex
	rung chan struct{}
}

// NewBell makes a bell.
func NewBell() *Bell { return &Bell{rung: make(chan struct{})} }

// Next returns a channel that is closed at the next ring. A stream takes it before it reads: what comes after the read closes
// it.
func (b *Bell) Next() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.rung
}

// Ring wakes all who wait.
func (b *Bell) Ring() {
	b.mu.Lock()
	defer b.mu.Unlock()
	close(b.rung)
	b.rung = make(chan struct{})
}
