package proof

import (
	"context"
	"crypto/ecdsa"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"runtime/debug"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	keysv1 "example.com/rolecall/gen/keys/v1"
	"example.com/rolecall/interceptors/internal/feature"
	"example.com/rolecall/interceptors/internal/identity"
	"example.com/rolecall/interceptors/internal/jws"
)

const (
	// maxOthers is how many chains of an answer are verified that no call waits for, newest first: those that it will be about next.
	maxOthers = 64
	// maxAnswer is how long an answer of the key server may be, in bytes.
	maxAnswer = 4 << 20
)

const unknownKey = "the key server knows no such key of the signer"

// fetch returns a key that a question has brought which was asked after the call came: what was answered before says nothing
// about a key that has been announced since.
func (r *ring) fetch(ctx context.Context, by spiffeid.ID, name keyName) (*known, feature.Verdict, string) {
	if r.client == nil {
		return nil, feature.Unknown, "it is not the key that the peer has shown on this connection, and no key server is configured"
	}
	r.mu.Lock()
	if k := r.cached(name); k != nil {
		r.mu.Unlock()
		return k, feature.Good, "" // somebody else has just found it
	}
	q, running, why := r.join(turnName{by, name.signer}, name.kid)
	r.mu.Unlock()
	if why != "" {
		return nil, feature.Unavailable, why
	}
	defer r.leave(q, name.kid)
	if running != nil {
		// What is being asked already may bring the key, too.
		select {
		case <-running.done:
			if k := running.found[name.kid]; k != nil {
				return k, feature.Good, ""
			}
		case <-q.done:
		case <-ctx.Done():
		}
	}
	select {
	case <-q.done:
	case <-ctx.Done():
		return nil, feature.Unavailable, "the call ended before the key server had answered"
	}
	if k := q.found[name.kid]; k != nil {
		r.keep(name, k)
		return k, feature.Good, ""
	}
	if q.verdict == feature.Good {
		return nil, feature.Unknown, unknownKey + q.detail
	}
	return nil, q.verdict, q.detail
}

// keep has a key remembered that was found, in case its signer has more than fit.
func (r *ring) keep(name keyName, k *known) {
	if r.lookup(name) == nil {
		r.put(name, k)
	}
}

// ask asks the key server for all keys of a signer. So whoever names keys that nobody has makes no more questions than who names one.
func (r *ring) ask(signer spiffeid.ID, q *question, kids map[string]int) {
	q.verdict = feature.Unavailable
	defer func() {
		// Chains come from outside, and this goroutine is of no call whose end would be the end of it.
		if p := recover(); p != nil {
			q.found, q.verdict, q.detail = nil, feature.Unavailable, "the question ended in a panic"
			r.env.Log.Error("panic while asking for the keys of a signer", "signer", signer.String(), "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.learn(signer, q.found)
		close(q.done)
	}()
	r.fetches.Add(1)
	ctx, cancel := context.WithTimeout(r.ctx, r.pace.fetch)
	defer cancel()
	answer, err := r.client.GetKeys(ctx, &keysv1.GetKeysRequest{SpiffeId: signer.String()}, grpc.MaxCallRecvMsgSize(maxAnswer))
	switch status.Code(err) {
	case codes.OK:
	case codes.NotFound, codes.InvalidArgument: // an ID as no workload has one
		q.verdict, q.detail = feature.Unknown, unknownKey
		return
	default:
		q.detail = "ask the key server: " + err.Error()
		return
	}
	found, err := r.read(signer, kids, answer)
	if err != nil {
		q.detail = "; what it has told does not hold: " + err.Error()
	} else {
		q.detail = ""
	}
	q.found, q.verdict = found, feature.Good
}

// read checks what the key server told, and returns what holds, and why something does not. It verifies one chain for each of
// the keys that calls wait for, and maxOthers: a key server that lies makes no more work than who asks.
func (r *ring) read(signer spiffeid.ID, wanted map[string]int, answer *keysv1.GetKeysResponse) (map[string]*known, error) {
	before := map[string]*known{}
	r.mu.Lock()
	if s := r.signer(signer); s != nil {
		before = maps.Clone(s.keys)
	}
	r.mu.Unlock()
	found, seen, others := map[string]*known{}, map[string]bool{}, 0
	var failed error
	for _, told := range answer.GetKeys() {
		kid := told.GetKid()
		if seen[kid] {
			continue
		}
		seen[kid] = true
		sum := chainSum(told.GetChain())
		if k := before[kid]; k != nil && k.told == sum {
			found[kid] = k
			continue
		}
		if wanted[kid] == 0 {
			if others++; others > maxOthers {
				continue
			}
		}
		k, err := r.readKey(keyName{signer, kid}, told.GetChain())
		if err != nil {
			failed = err
			continue
		}
		k.told = sum
		found[kid] = k
	}
	return found, failed
}

func chainSum(chain [][]byte) (sum [sha256.Size]byte) {
	h := sha256.New()
	for _, der := range chain {
		_, _ = h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(der))))
		_, _ = h.Write(der)
	}
	h.Sum(sum[:0])
	return sum
}

// readKey checks a chain. Nothing that the key server says of it is believed: the chain says who it is for and which key.
func (r *ring) readKey(name keyName, told [][]byte) (*known, error) {
	chain, err := identity.ParseChain(told)
	if err != nil {
		return nil, err
	}
	leaf := identity.Key(sha256.Sum256(chain[0].RawSubjectPublicKeyInfo))
	a, err := identity.Announce(chain, r.env.Source, r.env.Now(), r.denied(leaf, false))
	if err != nil {
		return nil, err
	}
	if a.ID != name.signer {
		return nil, fmt.Errorf("a certificate of %s", a.ID)
	}
	public, ok := a.PublicKey().(*ecdsa.PublicKey)
	if !ok {
		return nil, errors.New("a key that does not sign proofs")
	}
	if kid, err := jws.Thumbprint(public); err != nil || kid != name.kid {
		return nil, errors.New("another key than it is said to be")
	}
	key, err := jws.NewKey(name.kid, algorithm, public)
	if err != nil {
		return nil, err
	}
	return &known{Announced: a, key: key}, nil
}
