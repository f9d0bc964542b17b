package usertoken

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	tokensv1 "example.com/rolecall/gen/tokens/v1"
	"example.com/rolecall/interceptors/internal/feature"
	"example.com/rolecall/interceptors/internal/identity"
	"example.com/rolecall/interceptors/internal/jws"
)

const (
	keySet        = "rolecall-keys+jwt"
	maxKeySet     = 64 << 10
	maxKeySetLife = 31 * 24 * time.Hour
	// maxPast bounds how many keys are remembered that the tokens service no longer names.
	maxPast = 64
)

// ownKeys are the keys of the tokens service: a set that is signed with the service's certificate, so that it does not
// matter who hands it over.
type ownKeys struct {
	env    feature.Env
	server spiffeid.ID
	leeway time.Duration
	life   time.Duration // of a token, with leeway
	client tokensv1.TokensServiceClient
	purge  func() // forgets what was verified with keys that turned out bad
	set    atomic.Pointer[ownSet]
	drops  atomic.Uint64 // how often keys were dropped: what was verified before has nobody who vouches for it

	mu     sync.Mutex // of those who write
	newest int64      // iat of the newest set that was accepted and not dropped
}

// ownSet is one view of the keys. Immutable.
type ownSet struct {
	keys     map[string]jws.Key
	past     map[string]past // of keys that a newer set no longer has
	issued   time.Time
	expires  time.Time
	accepted time.Time
	chain    []*x509.Certificate
}

// past is a key that the newest set no longer has: until when it is good, and who vouched for it at which time.
type past struct {
	until    time.Time
	chain    []*x509.Certificate
	accepted time.Time
}

func (k *ownKeys) lookup(id string) (jws.Key, bool) {
	set := k.set.Load()
	if set == nil {
		return jws.Key{}, false
	}
	now := k.env.Now()
	old, past := set.past[id]
	if !now.Before(set.expires.Add(k.leeway)) || past && !now.Before(old.until) {
		return jws.Key{}, false
	}
	key, ok := set.keys[id]
	return key, ok
}

func (k *ownKeys) fetch(ctx context.Context) error {
	answer, err := k.client.GetKeys(ctx, &tokensv1.GetKeysRequest{})
	if err != nil {
		return fmt.Errorf("ask the tokens service for its keys: %w", err)
	}
	return k.install(answer.GetKeys())
}

// install takes over a signed set of keys. One that is older than the present one, as another replica may have it, changes
// nothing: what has been replaced does not come back.
func (k *ownKeys) install(signed *tokensv1.SignedKeys) error {
	now := k.env.Now()
	next, err := k.verify(signed, now)
	if err != nil {
		return fmt.Errorf("keys of the tokens service: %w", err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if next.issued.Unix() < k.newest {
		return nil
	}
	if old := k.set.Load(); old != nil {
		next.remember(old, now, now.Add(k.life))
	}
	k.newest = next.issued.Unix()
	k.set.Store(next)
	return nil
}

// remember keeps the keys of an older set for as long as tokens live that they signed. A key that changed under its name is
// not kept.
func (s *ownSet) remember(old *ownSet, now, until time.Time) {
	for id, key := range old.keys {
		kept, ok := old.past[id]
		if !ok {
			kept = past{until, old.chain, old.accepted}
		}
		if _, again := s.keys[id]; !again && now.Before(kept.until) && len(s.past) < maxPast {
			s.keys[id], s.past[id] = key, kept
		}
	}
}

// verify checks who signed the set, and reads it.
func (k *ownKeys) verify(signed *tokensv1.SignedKeys, now time.Time) (*ownSet, error) {
	chain, err := identity.ParseChain(signed.GetChain())
	if err != nil {
		return nil, err
	}
	if err := k.vouches(chain, now); err != nil {
		return nil, err
	}
	token, err := jws.Parse(signed.GetJws(), maxKeySet)
	if err != nil {
		return nil, err
	}
	signer, err := jws.NewKey(token.KeyID, token.Algorithm, chain[0].PublicKey)
	if err != nil {
		return nil, err
	}
	claims, err := token.Verify(signer, keySet)
	if err != nil {
		return nil, err
	}
	if issuer, err := claims.String("iss"); err != nil || issuer != k.server.String() {
		return nil, errors.New("the claim iss is not the tokens service")
	}
	issued, err := claims.Int("iat")
	if err != nil {
		return nil, err
	}
	expires, err := claims.Int("exp")
	if err != nil {
		return nil, err
	}
	set := &ownSet{past: map[string]past{}, issued: time.Unix(issued, 0), expires: time.Unix(expires, 0), accepted: now, chain: chain}
	switch {
	case set.issued.After(now.Add(k.leeway)):
		return nil, errors.New("issued in the future: compare the clocks")
	case !now.Before(set.expires.Add(k.leeway)):
		return nil, errors.New("expired")
	case expires <= issued || expires-issued > int64(maxKeySetLife/time.Second):
		return nil, fmt.Errorf("valid for %d s, at most %s is accepted", expires-issued, maxKeySetLife)
	}
	if set.keys, err = claims.KeySet(); err != nil {
		return nil, err
	}
	for id, key := range set.keys {
		if key.Algorithm != "ES256" {
			delete(set.keys, id)
		}
	}
	if len(set.keys) == 0 {
		return nil, errors.New("no key for ES256 is among them")
	}
	return set, nil
}

// vouches checks that a chain is the tokens service's, as if that had shown it in a handshake.
func (k *ownKeys) vouches(chain []*x509.Certificate, now time.Time) error {
	signer, err := identity.VerifyAnnounced(chain, k.env.Source, now, k.env.DeniedKey)
	if err != nil {
		return fmt.Errorf("certificate of the signer: %w", err)
	}
	if signer.ID != k.server {
		return fmt.Errorf("signed by %s, not by %s", signer.ID, k.server)
	}
	return nil
}

// recheck drops the keys whose signer has been denied, or its root has left the bundle, since they were accepted: those of
// the newest set, and those that are remembered from sets before. The next set may then be older than one that was dropped:
// who stole a certificate could else lock the owner out by a date ahead.
func (k *ownKeys) recheck() {
	k.mu.Lock()
	defer k.mu.Unlock()
	set := k.set.Load()
	if set == nil {
		return
	}
	if err := k.vouches(set.chain, set.accepted); err != nil {
		k.newest = 0
		k.drop(nil, err)
		return
	}
	next := *set
	next.keys, next.past = maps.Clone(set.keys), maps.Clone(set.past)
	var denied error
	for id, old := range set.past {
		if bytes.Equal(old.chain[0].Raw, set.chain[0].Raw) {
			continue // looked at above
		}
		if err := k.vouches(old.chain, old.accepted); err != nil {
			delete(next.keys, id)
			delete(next.past, id)
			denied = err
		}
	}
	if denied != nil {
		k.drop(&next, denied)
	}
}

// drop puts what is left of the keys in force.
func (k *ownKeys) drop(left *ownSet, why error) {
	k.set.Store(left)
	k.drops.Add(1)
	k.purge()
	k.env.Log.Error("keys of user tokens are no longer trusted: what they signed is refused from now on", "error", why)
}

// due tells whether newer keys are wanted, since there are none or half of their life is over, and how long to wait between
// two attempts.
func (k *ownKeys) due() (wait time.Duration, due bool) {
	set := k.set.Load()
	if set == nil {
		return 0, true
	}
	left := set.expires.Sub(k.env.Now())
	return left / 8, left < set.expires.Sub(set.issued)/2
}
