package keys

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	tokensv1 "example.com/rolecall/gen/tokens/v1"
)

const (
	// tokensTimeout bounds a call to tokens.
	tokensTimeout = 5 * time.Second
	// tokensRefresh is how often tokens is asked again: a key is published a minute before it signs.
	tokensRefresh = 10 * time.Second
	// tokensFirst is how soon tokens is asked again that did not answer; each later try waits twice as long, up to
	// tokensRefresh.
	tokensFirst = 100 * time.Millisecond
	// tokensGood is how long the keys are handed on while tokens does not answer: what it signs is good for an hour at most.
	tokensGood = time.Hour
)

// tokenKeys are the signed keys of the tokens service as they were when it was last asked. Safe for concurrent use.
type tokenKeys struct {
	tokens tokensv1.TokensServiceClient
	now    func() time.Time

	mu   sync.Mutex
	keys *tokensv1.SignedKeys // nil: it has not answered yet
	read time.Time
}

func newTokenKeys(tokens tokensv1.TokensServiceClient, now func() time.Time) *tokenKeys {
	return &tokenKeys{tokens: tokens, now: now}
}

// get returns the keys, and asks for them if there are none.
func (k *tokenKeys) get(ctx context.Context) (*tokensv1.SignedKeys, error) {
	if keys := k.last(); keys != nil {
		return keys, nil
	}
	return k.fetch(ctx)
}

// last returns the keys if they may still be good, else nil.
func (k *tokenKeys) last() *tokensv1.SignedKeys {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.now().Sub(k.read) > tokensGood {
		return nil
	}
	return k.keys
}

func (k *tokenKeys) fetch(ctx context.Context) (*tokensv1.SignedKeys, error) {
	ctx, cancel := context.WithTimeout(ctx, tokensTimeout)
	defer cancel()
	answer, err := k.tokens.GetKeys(ctx, &tokensv1.GetKeysRequest{})
	if err != nil {
		return nil, err
	}
	if answer.GetKeys() == nil {
		return nil, errors.New("tokens answers without keys")
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.keys, k.read = answer.GetKeys(), k.now()
	return k.keys, nil
}

// follow keeps the keys fresh, until ctx ends.
func (k *tokenKeys) follow(ctx context.Context, log *slog.Logger) {
	wait := tokensFirst
	for lost := false; ; {
		_, err := k.fetch(ctx)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			wait, lost = tokensRefresh, false
		} else if !lost {
			log.LogAttrs(ctx, slog.LevelWarn, "tokens does not tell its keys; trying again", slog.Any("error", err))
			wait, lost = tokensFirst, true
		}
		again := time.NewTimer(wait)
		select {
		case <-again.C:
		case <-ctx.Done():
			again.Stop()
			return
		}
		wait = min(2*wait, tokensRefresh)
	}
}
