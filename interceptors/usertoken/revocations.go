package usertoken

import (
	"errors"
	"hash/maphash"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"example.com/rolecall/interceptors/internal/feature"
)

// maxRevocations bounds what the tokens service can make us remember. Within a token's life that is 1,700 a second.
const maxRevocations = 1 << 20

var errTooManyRevocations = errors.New("more is revoked than is remembered here: tokens are refused until the tokens service sends less")

// revocation ends the tokens of a session, or those of a user below a generation.
type revocation struct {
	session    string // empty: of a user
	user       string
	generation uint64
	until      time.Time // then it is forgotten
}

// revocations is what was revoked. It only grows by add and shrinks by forget: a new snapshot takes nothing away that an
// earlier one held. Readers take no lock: each shard is replaced as a whole.
type revocations struct {
	life   time.Duration // every token that exists now ends within it
	most   int
	seed   maphash.Seed
	shards [64]atomic.Pointer[revoked]

	mu sync.Mutex // of writers
	n  int
}

// revoked is one shard. Immutable.
type revoked struct {
	sessions map[string]time.Time
	users    map[string]revocation
}

func newRevocations(life time.Duration) *revocations {
	r := &revocations{life: life, most: maxRevocations, seed: maphash.MakeSeed()}
	for i := range r.shards {
		r.shards[i].Store(&revoked{})
	}
	return r
}

func (r *revocations) shard(name string) int {
	return int(maphash.String(r.seed, name) % uint64(len(r.shards)))
}

// add remembers what was revoked until its time, and until every token of now has expired, whichever is later.
func (r *revocations) add(batch []revocation, now time.Time) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.n+len(batch) > r.most {
		return errTooManyRevocations
	}
	changed := map[int]*revoked{}
	for _, rev := range batch {
		if least := now.Add(r.life); rev.until.Before(least) {
			rev.until = least
		}
		i := r.shard(rev.user + rev.session) // one of the two is empty
		s := changed[i]
		if s == nil {
			old := r.shards[i].Load()
			s = &revoked{sessions: maps.Clone(old.sessions), users: maps.Clone(old.users)}
			changed[i] = s
		}
		r.n += s.add(rev)
	}
	for i, s := range changed {
		r.shards[i].Store(s)
	}
	return nil
}

// add returns how many more there are.
func (s *revoked) add(rev revocation) int {
	if s.sessions == nil {
		s.sessions, s.users = map[string]time.Time{}, map[string]revocation{}
	}
	before := len(s.sessions) + len(s.users)
	if rev.session != "" {
		if rev.until.After(s.sessions[rev.session]) {
			s.sessions[rev.session] = rev.until
		}
	} else {
		// A generation never goes down, whatever comes later.
		old := s.users[rev.user]
		rev.generation = max(rev.generation, old.generation)
		if rev.until.Before(old.until) {
			rev.until = old.until
		}
		s.users[rev.user] = rev
	}
	return len(s.sessions) + len(s.users) - before
}

// forget drops what every token has outlived.
func (r *revocations) forget(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.n = 0
	for i := range r.shards {
		old := r.shards[i].Load()
		next := &revoked{sessions: map[string]time.Time{}, users: map[string]revocation{}}
		for session, until := range old.sessions {
			if now.Before(until) {
				next.sessions[session] = until
			}
		}
		for user, rev := range old.users {
			if now.Before(rev.until) {
				next.users[user] = rev
			}
		}
		if n := len(next.sessions) + len(next.users); n != len(old.sessions)+len(old.users) {
			r.shards[i].Store(next)
		}
		r.n += len(next.sessions) + len(next.users)
	}
}

// len returns how many revocations are remembered.
func (r *revocations) len() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.n
}

// hit tells whether the token of a user was revoked. It takes no lock and allocates nothing.
func (r *revocations) hit(u *feature.User) bool {
	if _, ok := r.shards[r.shard(u.Session)].Load().sessions[u.Session]; ok {
		return true
	}
	rev, ok := r.shards[r.shard(u.Subject)].Load().users[u.Subject]
	return ok && u.Generation < rev.generation
}
