//go:build unix

package e2e_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"

	ledgerv1 "example.com/rolecall/gen/ledger/v1"
	tokensv1 "example.com/rolecall/gen/tokens/v1"
	"example.com/rolecall/interceptors"
	"example.com/rolecall/internal/mesh"
)

// refreshEvery is how often the user of a load gets other tokens, which live much longer.
const refreshEvery = 5 * time.Second

// userSession is a user who stays logged in. Safe for concurrent use.
type userSession struct {
	tokens tokensv1.TokensServiceClient

	mu        sync.Mutex
	pair      *tokensv1.TokenPair
	refreshes int
	failed    error // the first refresh that did
}

func newUserSession(t *testing.T, c *caller, u mesh.User) *userSession {
	t.Helper()
	return &userSession{tokens: c.tokens(t), pair: c.login(t, u)}
}

// keep refreshes the session until ctx ends.
func (s *userSession) keep(ctx context.Context) {
	tick := time.NewTicker(refreshEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
		answer, err := s.tokens.Refresh(bounded, &tokensv1.RefreshRequest{RefreshToken: s.pair.GetRefreshToken()})
		cancel()
		s.mu.Lock()
		if err == nil {
			s.pair = answer.GetTokens()
			s.refreshes++
		} else if s.failed == nil {
			s.failed = fmt.Errorf("refresh %d: %w", s.refreshes+1, err)
		}
		s.mu.Unlock()
	}
}

// token returns an access token that is good now.
func (s *userSession) token() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pair.GetAccessToken()
}

// readBalance is a call of a load, on behalf of the user.
func (s *userSession) readBalance(account string) func(context.Context, ledgerv1.LedgerServiceClient, ...grpc.CallOption) error {
	return func(ctx context.Context, ledger ledgerv1.LedgerServiceClient, opts ...grpc.CallOption) error {
		_, err := ledger.GetBalance(interceptors.AsUser(ctx, s.token()), &ledgerv1.GetBalanceRequest{AccountId: account}, opts...)
		return err
	}
}

// report fails the test if a refresh failed.
func (s *userSession) report(t *testing.T) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	t.Logf("the user's session was refreshed %d times", s.refreshes)
	if s.failed != nil || s.refreshes == 0 {
		t.Errorf("the user's session: %d refreshes, %v", s.refreshes, s.failed)
	}
}
