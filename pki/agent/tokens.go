package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/jwtsvid"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Bounds of JWT-SVIDs.
const (
	maxTokens     = 4096            // that are kept
	tokensPerUser = 4               // that are signed at the same time
	keptPatience  = time.Second     // for the authority, while a token is at hand that is good yet
	keptRetry     = 5 * time.Second // until it is asked again when it did not answer
)

// JWTSigner has JWT-SVIDs signed: the authority over mutual TLS, or anything else that can.
type JWTSigner interface {
	// SignJWT returns a JWT-SVID of the identity for exactly this audience. It must be safe to call concurrently and return
	// soon after ctx ends.
	SignJWT(ctx context.Context, id spiffeid.ID, audience []string) (token string, err error)
}

// tokens has JWT-SVIDs signed and keeps each to half of its life, so that a program which fetches one for every request
// asks the authority for one in a while. If the authority cannot be reached then, the token serves almost to its end. Safe
// for concurrent use.
type tokens struct {
	signer JWTSigner
	now    func() time.Time
	log    *slog.Logger
	turns  *turns

	mu         sync.Mutex
	kept       map[string]keptToken
	generation int // how often all were forgotten
}

type keptToken struct {
	token string
	until time.Time // then a new one is asked for: half of its life
	ends  time.Time
}

func newTokens(signer JWTSigner, now func() time.Time, log *slog.Logger) *tokens {
	return &tokens{signer: signer, now: now, log: log, turns: newTurns(tokensPerUser), kept: map[string]keptToken{}}
}

// of returns a JWT-SVID for each identity that one can be signed for, or Unavailable if there is none.
func (t *tokens) of(ctx context.Context, uid uint32, ids []spiffeid.ID, audience []string) ([]*workload.JWTSVID, error) {
	ctx, cancel := context.WithTimeout(ctx, signTimeout)
	defer cancel()
	var all []*workload.JWTSVID
	for _, id := range ids {
		token, err := t.one(ctx, uid, id, audience)
		if err != nil {
			t.log.Warn("JWT-SVID could not be signed", "id", id, "error", err)
			continue
		}
		all = append(all, &workload.JWTSVID{SpiffeId: id.String(), Svid: token})
	}
	if len(all) == 0 {
		return nil, status.Error(codes.Unavailable, "no JWT-SVID can be issued now")
	}
	return all, nil
}

func (t *tokens) one(ctx context.Context, uid uint32, id spiffeid.ID, audience []string) (string, error) {
	key := fmt.Sprintf("%s %q", id, audience) // quoted: no two lists of audiences look the same
	if token, ok := t.lookUp(key); ok {
		return token, nil
	}
	done, err := t.turns.wait(ctx, uid)
	if err != nil {
		return "", err
	}
	defer done()
	if token, ok := t.lookUp(key); ok { // signed meanwhile
		return token, nil
	}
	asked, generation := t.now(), t.present()
	patience := signTimeout
	if t.good(key) {
		patience = keptPatience
	}
	signing, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	token, err := t.signer.SignJWT(signing, id, audience)
	if err != nil {
		if unreachable(err) {
			if kept, ok := t.postpone(key); ok {
				return kept, nil
			}
		}
		return "", err
	}
	parsed, err := jwtsvid.ParseInsecure(token, audience)
	if err != nil {
		return "", fmt.Errorf("what came back: %w", err)
	}
	if parsed.ID != id {
		return "", fmt.Errorf("what came back names %s", parsed.ID)
	}
	life := parsed.Expiry.Sub(asked)
	if life <= 0 {
		return "", errors.New("what came back has expired: the clock here or the authority's is wrong")
	}
	t.keep(key, keptToken{token, asked.Add(life / 2), parsed.Expiry}, generation)
	return token, nil
}

func (t *tokens) lookUp(key string) (string, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	kept, ok := t.kept[key]
	return kept.token, ok && t.now().Before(kept.until)
}

// good tells whether the token that is at hand is of use for a while yet.
func (t *tokens) good(key string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.goodLocked(t.kept[key])
}

func (t *tokens) goodLocked(kept keptToken) bool { return t.now().Add(signTimeout).Before(kept.ends) }

// postpone returns the token that is at hand if it is of use for a while yet, and has it serve until the authority is to be
// asked again.
func (t *tokens) postpone(key string) (string, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	kept, ok := t.kept[key]
	if !ok || !t.goodLocked(kept) {
		return "", false
	}
	kept.until = t.now().Add(keptRetry)
	t.kept[key] = kept
	return kept.token, true
}

// unreachable tells that the authority did not answer, as opposed to: it refused.
func unreachable(err error) bool {
	code := status.Code(err)
	return code == codes.Unavailable || code == codes.DeadlineExceeded || errors.Is(err, context.DeadlineExceeded)
}

// present returns the generation to keep a token in that is asked for now.
func (t *tokens) present() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.generation
}

// keep keeps a token that was asked for in this generation: one that was on its way while the keys changed may be signed
// with one that was taken back.
func (t *tokens) keep(key string, token keptToken, generation int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if generation != t.generation {
		return
	}
	if len(t.kept) >= maxTokens {
		now := t.now()
		maps.DeleteFunc(t.kept, func(_ string, kept keptToken) bool { return !now.Before(kept.ends) })
	}
	if len(t.kept) >= maxTokens {
		clear(t.kept)
	}
	t.kept[key] = token
}

// forget drops what is kept: the keys that it was signed with may have been replaced because they leaked.
func (t *tokens) forget() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.generation++
	clear(t.kept)
}
