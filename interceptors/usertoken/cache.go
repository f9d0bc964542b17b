package usertoken

import (
	"crypto/sha256"
	"sync"
	"sync/atomic"
	"time"

	"example.com/rolecall/interceptors/internal/feature"
)

// cacheShards is how many callers find a token at the same time without waiting for each other.
const cacheShards = 8

// tokenSum is what a token is remembered by: no part of a token that is wrong can stand in for one that is right.
type tokenSum = [sha256.Size]byte

// cache remembers verified tokens. Each shard has two generations: when the fresh one is full it becomes the old one, and
// what the old one held is forgotten, unless somebody asked for it. Safe for concurrent use.
type cache struct {
	most   int // of one generation of one shard
	purges atomic.Uint64
	shards [cacheShards]struct {
		mu         sync.Mutex
		fresh, old map[tokenSum]*feature.User
	}
}

// newCache makes a cache of at most size tokens, 16 or more.
func newCache(size int) *cache { return &cache{most: size / (2 * cacheShards)} }

// get returns the user of a token, or nil.
func (c *cache) get(sum tokenSum) *feature.User {
	s := &c.shards[sum[0]%cacheShards]
	s.mu.Lock()
	defer s.mu.Unlock()
	if u := s.fresh[sum]; u != nil {
		return u
	}
	u := s.old[sum]
	if u != nil {
		delete(s.old, sum)
		c.insert(sum, u)
	}
	return u
}

// age is to be taken before the key is looked up that a token is verified with, and given to put.
func (c *cache) age() uint64 { return c.purges.Load() }

// put remembers the user of a token, unless the cache was purged since age.
func (c *cache) put(sum tokenSum, u *feature.User, age uint64) {
	s := &c.shards[sum[0]%cacheShards]
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.purges.Load() == age {
		delete(s.old, sum)
		c.insert(sum, u)
	}
}

func (c *cache) insert(sum tokenSum, u *feature.User) {
	s := &c.shards[sum[0]%cacheShards]
	if s.fresh == nil || len(s.fresh) >= c.most && s.fresh[sum] == nil {
		s.old, s.fresh = s.fresh, make(map[tokenSum]*feature.User)
	}
	s.fresh[sum] = u
}

// purge forgets everything: a key that tokens were verified with is no longer good.
func (c *cache) purge() {
	c.purges.Add(1)
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		s.fresh, s.old = nil, nil
		s.mu.Unlock()
	}
}

// sweep forgets what expired before.
func (c *cache) sweep(before time.Time) {
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		for _, generation := range []map[tokenSum]*feature.User{s.fresh, s.old} {
			for sum, u := range generation {
				if u.Expires.Before(before) {
					delete(generation, sum)
				}
			}
		}
		s.mu.Unlock()
	}
}

// len returns how many tokens are remembered.
func (c *cache) len() (n int) {
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		n += len(s.fresh) + len(s.old)
		s.mu.Unlock()
	}
	return n
}
