package agent

import (
	"context"
	"sync"
)

// turns lets each user have a few things done at the same time, so that what one user asks for holds up no other. Safe
// for concurrent use.
type turns struct {
	each int

	mu    sync.Mutex
	users map[uint32]*userTurns
}

// userTurns are the turns of one user. It is there while somebody has one or waits for one.
type userTurns struct {
	slots   chan struct{}
	waiting int
}

func newTurns(each int) *turns { return &turns{each: each, users: map[uint32]*userTurns{}} }

// wait waits until it is the user's turn, or ctx ends; done ends the turn.
func (t *turns) wait(ctx context.Context, uid uint32) (done func(), err error) {
	t.mu.Lock()
	user := t.users[uid]
	if user == nil {
		user = &userTurns{slots: make(chan struct{}, t.each)}
		t.users[uid] = user
	}
	user.waiting++
	t.mu.Unlock()
	leave := func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if user.waiting--; user.waiting == 0 {
			delete(t.users, uid)
		}
	}
	select {
	case user.slots <- struct{}{}:
		return func() { <-user.slots; leave() }, nil
	case <-ctx.Done():
		leave()
		return nil, ctx.Err()
	}
}
