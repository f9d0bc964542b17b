package proof

import (
	"context"
	"crypto/sha256"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	keysv1 "example.com/rolecall/gen/keys/v1"
	"example.com/rolecall/interceptors/internal/feature"
	"example.com/rolecall/interceptors/internal/identity"
	"example.com/rolecall/interceptors/internal/jws"
)

// keyName is what a key is found by.
type keyName struct {
	signer spiffeid.ID
	kid    string
}

// known is a key whose chain was verified, as a peer's is. Immutable.
type known struct {
	*identity.Announced
	key  jws.Key
	told [sha256.Size]byte // the chain, as the key server told it
}

// ring finds the keys of signers. The key server tells chains; whether they are good is found out here, as it would be of a
// peer's, and again whenever one is used. Safe for concurrent use.
type ring struct {
	env    feature.Env
	client keysv1.KeysServiceClient // nil: there is no key server
	pace   pace
	most   int             // keys of one generation
	ctx    context.Context // of the feature

	fetches atomic.Int64 // questions that were asked
	going   sync.WaitGroup
	places  [kinds]places // of all peers

	mu         sync.Mutex
	closed     bool
	fresh, old generation
	turns      map[turnName]*turn
	askers     map[spiffeid.ID]*asker
}

func newRing(ctx context.Context, env feature.Env, client keysv1.KeysServiceClient, pace pace, size int) *ring {
	r := &ring{env: env, client: client, pace: pace, most: size / 2, ctx: ctx, turns: map[turnName]*turn{}, askers: map[spiffeid.ID]*asker{}}
	for k := range r.places {
		r.places[k] = make(places, allPlaces[k])
	}
	r.fresh = generation{signers: map[spiffeid.ID]*signerKeys{}}
	return r
}

// find returns a key of a signer, or Unknown if it has none such that holds, or Unavailable if nobody can tell. The asker is
// the peer whose call makes us look. Unless strict, it is left to the caller whether the signer or this key is denied.
func (r *ring) find(ctx context.Context, asker, signer spiffeid.ID, kid string, strict bool) (*known, feature.Verdict, string) {
	name := keyName{signer, kid}
	before := ""
	if k := r.lookup(name); k != nil {
		err := r.recheck(name, k, strict)
		if err == nil {
			return k, feature.Good, ""
		}
		// There may be another certificate for the key by now.
		r.forget(name, k)
		before = "it was good before: " + err.Error() + "; now: "
	}
	k, verdict, detail := r.fetch(ctx, asker, name)
	if verdict != feature.Good {
		return nil, verdict, before + detail
	}
	if err := r.recheck(name, k, strict); err != nil {
		return nil, feature.Unknown, err.Error()
	}
	return k, feature.Good, ""
}

// recheck says why a key no longer holds.
func (r *ring) recheck(name keyName, k *known, strict bool) error {
	now, err := k.Recheck(r.env.Source, r.env.Now(), r.denied(k.Leaf, strict))
	if err == nil && now != k.Announced {
		r.put(name, &known{now, k.key, k.told})
	}
	return err
}

// denied asks the bindings about the keys of a chain.
func (r *ring) denied(leaf identity.Key, strict bool) func(spiffeid.ID, identity.Key) bool {
	if strict {
		return r.env.DeniedKey
	}
	return func(id spiffeid.ID, key identity.Key) bool {
		// Denied with whatever key: the guard says so itself.
		return key != leaf && r.env.DeniedKey(id, key) && !r.env.DeniedKey(id, identity.Key{})
	}
}

// signerKeys are the keys of a signer that were good, by their names. There may be none left: then the signer was good.
type signerKeys struct{ keys map[string]*known }

func (s *signerKeys) size() int { return max(1, len(s.keys)) }

// generation is what was used since it began, of about a size.
type generation struct {
	signers map[spiffeid.ID]*signerKeys
	size    int
}

// signer returns the keys of one, nil if none was ever good, as far as is remembered. Under mu.
func (r *ring) signer(id spiffeid.ID) *signerKeys {
	if s := r.fresh.signers[id]; s != nil {
		return s
	}
	s := r.old.signers[id]
	if s != nil {
		r.old.size -= s.size()
		delete(r.old.signers, id)
		r.insert(id, s)
	}
	return s
}

// insert keeps two generations: when the fresh one is full it becomes the old one, whose signers are forgotten unless somebody
// asks for them. Under mu.
func (r *ring) insert(id spiffeid.ID, s *signerKeys) {
	if r.fresh.size > 0 && r.fresh.size+s.size() > r.most {
		r.old, r.fresh = r.fresh, generation{signers: map[spiffeid.ID]*signerKeys{}}
	}
	r.fresh.signers[id] = s
	r.fresh.size += s.size()
}

// change changes the keys of a signer, which are made if there are none. Under mu.
func (r *ring) change(id spiffeid.ID, f func(keys map[string]*known)) {
	s := r.signer(id)
	if s == nil {
		s = &signerKeys{map[string]*known{}}
	} else {
		r.fresh.size -= s.size()
		delete(r.fresh.signers, id)
	}
	f(s.keys)
	r.insert(id, s)
}

func (r *ring) lookup(name keyName) *known {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.cached(name)
}

// cached is lookup under mu.
func (r *ring) cached(name keyName) *known {
	if s := r.signer(name.signer); s != nil {
		return s.keys[name.kid]
	}
	return nil
}

func (r *ring) put(name keyName, k *known) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.change(name.signer, func(keys map[string]*known) {
		keys[name.kid] = k
		r.trim(keys, func(kid string) bool { return kid == name.kid })
	})
}

// learn takes in what was found out about a signer. What is known and was not told goes on: a key server that has lost
// something does no harm. Under mu.
func (r *ring) learn(id spiffeid.ID, found map[string]*known) {
	if len(found) == 0 {
		return
	}
	r.change(id, func(keys map[string]*known) {
		for kid, k := range keys {
			if !r.env.Now().Before(k.NotAfter) {
				delete(keys, kid)
			}
		}
		for kid, k := range found {
			keys[kid] = k
		}
		r.trim(keys, func(kid string) bool { return found[kid] != nil })
	})
}

// trim has the keys of one signer fit: those that need not be kept go first.
func (r *ring) trim(keys map[string]*known, kept func(kid string) bool) {
	for _, all := range []bool{false, true} {
		for kid := range keys {
			if len(keys) <= r.most {
				return
			}
			if all || !kept(kid) {
				delete(keys, kid)
			}
		}
	}
}

// forget forgets a key that is no longer good, if there is not another chain for it by now.
func (r *ring) forget(name keyName, k *known) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.cached(name) == k {
		r.change(name.signer, func(keys map[string]*known) { delete(keys, name.kid) })
	}
}

// len returns how many keys are remembered.
func (r *ring) len() (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, g := range []generation{r.fresh, r.old} {
		for _, s := range g.signers {
			n += len(s.keys)
		}
	}
	return n
}

// close waits for the questions that run, once the ring's context has ended, and lets nobody begin another.
func (r *ring) close() {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.going.Wait()
}

// pause waits, unless the feature is closed.
func (r *ring) pause(d time.Duration) {
	if d <= 0 {
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-r.ctx.Done():
	}
}
