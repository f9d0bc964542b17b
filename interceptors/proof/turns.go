package proof

import (
	"context"
	"maps"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"example.com/rolecall/interceptors/internal/feature"
)

// kind is of which signers a question is. Anybody can make up the name of a stranger, and so strangers take their turns among
// themselves: who has signed before waits for none of them.
type kind int

const (
	familiar kind = iota // a key of the signer was good before
	stranger
	kinds
)

// Bounds of what others make the ring do. A place is held for as long as the question takes, and for pace.refill at least: so
// many questions are asked at once, and so many in a time, of one peer and in all.
var (
	peerPlaces = [kinds]int{4, 2}
	allPlaces  = [kinds]int{32, 8}
)

const (
	maxWaiting     = 128 // calls of one peer that wait for one question about one signer
	maxPeerWaiting = 512 // calls of one peer that wait for signers of one kind
)

// places are taken in the order in which they are asked for.
type places chan struct{}

// take returns false if ctx ended before.
func (p places) take(ctx context.Context) bool {
	select {
	case p <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

func (p places) give() { <-p }

// asker is a peer whose calls make us ask. It is there for as long as one of its turns.
type asker struct {
	places  [kinds]places
	waiting [kinds]int // calls
	turns   int
}

// turnName says on behalf of whom which signer is asked for. What one peer's calls claim is in no other's way.
type turnName struct{ asker, signer spiffeid.ID }

// turn asks for the keys of one signer on behalf of one peer: one question after the other, pace.again apart, for as long as
// calls wait. Guarded by ring.mu.
type turn struct {
	asker   *asker
	next    *question // that was not asked yet; nil: nobody waits
	running *question // that was asked and not answered
}

// question is one question to the key server, and the calls that wait for it.
type question struct {
	asker   *asker
	turn    *turn
	kind    kind
	ctx     context.Context // ends when nobody waits before it was asked
	cancel  context.CancelFunc
	waiting int            // guarded by ring.mu
	kids    map[string]int // of the keys that these calls need, and how many do; guarded by ring.mu

	done    chan struct{} // closed when the rest is set
	found   map[string]*known
	verdict feature.Verdict // Good: the server has answered
	detail  string
}

// join has a call wait for the next question, and for the one that runs, if one does. Else it says why not. Under mu.
func (r *ring) join(name turnName, kid string) (q, running *question, why string) {
	if r.closed || r.ctx.Err() != nil {
		return nil, nil, "the feature has been closed"
	}
	k := stranger
	if r.signer(name.signer) != nil {
		k = familiar
	}
	t := r.turns[name]
	a := r.askers[name.asker]
	switch {
	case t != nil && t.next != nil && t.next.waiting >= maxWaiting:
		return nil, nil, "too many calls of this peer wait for keys of this signer"
	case a != nil && a.waiting[k] >= maxPeerWaiting:
		return nil, nil, "too many calls of this peer wait for keys of signers"
	}
	if t == nil {
		if a == nil {
			a = &asker{}
			for k := range a.places {
				a.places[k] = make(places, peerPlaces[k])
			}
			r.askers[name.asker] = a
		}
		a.turns++
		t = &turn{asker: a}
		r.turns[name] = t
		r.going.Go(func() { r.take(name, t) }) // which waits for mu
	}
	if t.next == nil {
		q := &question{asker: t.asker, turn: t, kind: k, kids: map[string]int{}, done: make(chan struct{})}
		q.ctx, q.cancel = context.WithCancel(r.ctx)
		t.next = q
	}
	t.next.waiting++
	t.next.kids[kid]++
	t.asker.waiting[t.next.kind]++
	return t.next, t.running, ""
}

// leave gives up the place of a call. A question that nobody waits for is not asked.
func (r *ring) leave(q *question, kid string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	q.waiting--
	if q.kids[kid]--; q.kids[kid] == 0 {
		delete(q.kids, kid)
	}
	q.asker.waiting[q.kind]--
	if q.waiting == 0 && q.turn.next == q {
		q.turn.next = nil
		q.cancel()
	}
}

// take asks one question after the other, until nobody waits.
func (r *ring) take(name turnName, t *turn) {
	for {
		r.mu.Lock()
		q := t.next
		if q == nil {
			delete(r.turns, name)
			if t.asker.turns--; t.asker.turns == 0 {
				delete(r.askers, name.asker)
			}
			r.mu.Unlock()
			return
		}
		r.mu.Unlock()
		if asked := r.queue(name.signer, t, q); asked {
			r.pause(r.pace.again)
		}
		q.cancel()
	}
}

// queue waits for places, asks the question, and tells whether it did.
func (r *ring) queue(signer spiffeid.ID, t *turn, q *question) bool {
	own, all := t.asker.places[q.kind], r.places[q.kind]
	if !own.take(q.ctx) {
		return r.drop(t, q)
	}
	defer own.give()
	if !all.take(q.ctx) {
		return r.drop(t, q)
	}
	defer all.give()
	r.mu.Lock()
	if t.next != q {
		r.mu.Unlock()
		return false
	}
	t.next, t.running = nil, q
	kids := maps.Clone(q.kids) // nobody joins any more, and some may leave
	r.mu.Unlock()
	began := time.Now()
	r.ask(signer, q, kids)
	r.mu.Lock()
	t.running = nil
	r.mu.Unlock()
	r.pause(r.pace.refill - time.Since(began))
	return true
}

// drop ends a question that was not asked: because nobody waits for it any more, or because the feature is being closed.
func (r *ring) drop(t *turn, q *question) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if t.next == q {
		t.next = nil
	}
	q.verdict, q.detail = feature.Unavailable, errClosed.Error()
	close(q.done)
	return false
}
