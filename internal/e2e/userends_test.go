//go:build unix

package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	ledgerv1 "example.com/rolecall/gen/ledger/v1"
	tokensv1 "example.com/rolecall/gen/tokens/v1"
	usersv1 "example.com/rolecall/gen/users/v1"
	"example.com/rolecall/interceptors"
	"example.com/rolecall/internal/mesh"
)

func TestWhatAliceDoesToAUserTakesEffectWithinASecond(t *testing.T) {
	t.Parallel()
	running := sharedMesh(t)
	alice, bob := running.caller(t, "alice"), running.caller(t, "bob")
	users, tokens := alice.users(t), alice.tokens(t)
	_, account := openAccounts(t, alice.ledger(t), "")
	for _, test := range []struct {
		name  string
		do    func(context.Context, *testing.T, mesh.User) error
		after func(*testing.T, mesh.User, *tokensv1.TokenPair)
	}{
		{
			name: "SetRoles: older tokens end, and the session goes on with the new roles",
			do: func(ctx context.Context, _ *testing.T, u mesh.User) error {
				_, err := users.SetRoles(ctx, &usersv1.SetRolesRequest{Username: u.Username, Roles: []string{"orders.reader"}})
				return err
			},
			after: func(t *testing.T, u mesh.User, pair *tokensv1.TokenPair) {
				next, err := bob.refresh(t, pair.GetRefreshToken())
				if err != nil || !slices.Equal(next.GetRoles(), []string{"orders.reader"}) {
					t.Fatalf("refreshed: %v, %v", next.GetRoles(), err)
				}
				accepted(t, bob.behalf(t, account, next.GetAccessToken()))
			},
		},
		{
			name: "SetPassword: sessions end, and the new password is good",
			do: func(ctx context.Context, t *testing.T, u mesh.User) error {
				keepSecret("a new password of " + u.Username)
				await(t, "the password is set", func() error {
					_, err := users.SetPassword(ctx, &usersv1.SetPasswordRequest{Username: u.Username, Password: "a new password of " + u.Username})
					return comeAgain(t, err)
				})
				return nil
			},
			after: func(t *testing.T, u mesh.User, pair *tokensv1.TokenPair) {
				expectEnded(t, bob, pair)
				u.Password = "a new password of " + u.Username
				accepted(t, bob.behalf(t, account, bob.login(t, u).GetAccessToken()))
			},
		},
		{
			name: "RevokeUser: sessions end, and the user may log in again",
			do: func(ctx context.Context, _ *testing.T, u mesh.User) error {
				_, err := tokens.RevokeUser(ctx, &tokensv1.RevokeUserRequest{Username: u.Username})
				return err
			},
			after: func(t *testing.T, u mesh.User, pair *tokensv1.TokenPair) {
				expectEnded(t, bob, pair)
				accepted(t, bob.behalf(t, account, bob.login(t, u).GetAccessToken()))
			},
		},
		{
			name: "Disable: sessions end, and there are no others",
			do: func(ctx context.Context, _ *testing.T, u mesh.User) error {
				_, err := users.Disable(ctx, &usersv1.DisableRequest{Username: u.Username})
				return err
			},
			after: func(t *testing.T, u mesh.User, pair *tokensv1.TokenPair) {
				expectEnded(t, bob, pair)
				await(t, "the login is refused", func() error {
					_, err := bob.tokens(t).Login(t.Context(), &tokensv1.LoginRequest{Username: u.Username, Password: u.Password})
					if got := verdictOf(err); got.Code == codes.ResourceExhausted {
						return err
					} else if want := (verdict{Code: codes.Unauthenticated, Reason: "LOGIN_REFUSED"}); got != want {
						t.Fatalf("login: %v, want %+v", err, want)
					}
					return nil
				})
			},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var u mesh.User
			var pair *tokensv1.TokenPair
			endsWithinASecond(t, test.name, func() (map[string]func() error, func() error) {
				u = running.newUser(t, "orders.customer", "orders.reader")
				pair = bob.login(t, u)
				return bob.behalf(t, account, pair.GetAccessToken()), func() error {
					ctx, cancel := context.WithTimeout(t.Context(), patience)
					defer cancel()
					return test.do(ctx, t, u)
				}
			})
			test.after(t, u, pair)
		})
	}
}

func TestAnOpenStreamEndsWithTheSessionOfItsUser(t *testing.T) {
	t.Parallel()
	running := sharedMesh(t)
	alice, bob := running.caller(t, "alice"), running.caller(t, "bob")
	from, to := openAccounts(t, alice.ledger(t), "")
	pay(t, alice.ledger(t), from, to, 1)
	pair := bob.login(t, running.newUser(t, "orders.customer"))
	ctx, cancel := context.WithTimeout(interceptors.AsUser(t.Context(), pair.GetAccessToken()), patience)
	defer cancel()
	accepted(t, bob.behalf(t, to, pair.GetAccessToken()))
	stream, err := bob.ledger(t).WatchEntries(ctx, &ledgerv1.WatchEntriesRequest{AccountId: to})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatalf("the first entry: %v", err)
	}
	began := time.Now()
	if _, err := bob.tokens(t).Revoke(ctx, &tokensv1.RevokeRequest{RefreshToken: pair.GetRefreshToken()}); err != nil {
		t.Fatalf("revoke: %v", err)
	}
	_, err = stream.Recv()
	t.Logf("the open stream ended: after %s", time.Since(began).Round(time.Millisecond))
	if got, want := verdictOf(err), (verdict{Code: codes.Unauthenticated, Reason: "USER_TOKEN_REVOKED"}); got != want {
		t.Errorf("the stream ended with %v, want %+v", err, want)
	}
}

// refresh takes the next pair of a session.
func (c *caller) refresh(t *testing.T, token string) (*tokensv1.TokenPair, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	answer, err := c.tokens(t).Refresh(ctx, &tokensv1.RefreshRequest{RefreshToken: token})
	if err == nil {
		keepTokens(answer.GetTokens())
	}
	return answer.GetTokens(), err
}

func expectEnded(t *testing.T, c *caller, pair *tokensv1.TokenPair) {
	t.Helper()
	_, err := c.refresh(t, pair.GetRefreshToken())
	if got, want := verdictOf(err), (verdict{Code: codes.Unauthenticated, Reason: "SESSION_ENDED"}); got != want {
		t.Errorf("the refresh token: %v, want %+v", err, want)
	}
}

// TestTokensIsKilledAndForgetsNothing kills the tokens service and, once it is back, the verifiers, which then begin with its
// snapshot.
func TestTokensIsKilledAndForgetsNothing(t *testing.T) {
	t.Parallel()
	running := startMesh(t)
	bob := running.caller(t, "bob")
	_, account := openAccounts(t, running.caller(t, "alice").ledger(t), "")
	dave := running.sampleUser(t, "dave")
	revoked, good := bob.login(t, dave), bob.login(t, dave)
	calls, over := bob.behalf(t, account, good.GetAccessToken()), bob.behalf(t, account, revoked.GetAccessToken())
	accepted(t, calls)
	accepted(t, over)
	began := time.Now()
	if _, err := bob.tokens(t).Revoke(t.Context(), &tokensv1.RevokeRequest{RefreshToken: revoked.GetRefreshToken()}); err != nil {
		t.Fatalf("revoke: %v", err)
	}
	ends(t, "Revoke", over, began)
	hold := func(t *testing.T, when string) {
		t.Helper()
		for service, call := range calls {
			if err := call(); err != nil {
				t.Errorf("%s: %s refuses the token that is good: %v", when, service, err)
			}
			if err := over[service](); verdictOf(err).Reason != "USER_TOKEN_REVOKED" {
				t.Errorf("%s: %s answers %v to the revoked token, want USER_TOKEN_REVOKED", when, service, err)
			}
		}
	}
	// The subtests follow each other: each disturbs the whole mesh.
	t.Run("killed", func(t *testing.T) {
		restartAfterKill(t, running, "tokens", func() { hold(t, "while tokens is away") })
		hold(t, "when tokens is back")
	})
	t.Run("sessions from before go on", func(t *testing.T) {
		var next *tokensv1.TokenPair
		await(t, "the session is refreshed", func() (err error) {
			next, err = bob.refresh(t, good.GetRefreshToken())
			return err
		})
		accepted(t, bob.behalf(t, account, next.GetAccessToken())) // signed with a new key
		hold(t, "with the new key")
		expectEnded(t, bob, revoked)
	})
	t.Run("verifiers that begin anew know the old keys and what was revoked before", func(t *testing.T) {
		for service := range calls {
			restartAfterKill(t, running, service, func() {})
		}
		for service, call := range calls {
			await(t, service+" accepts a token of before", call)
		}
		hold(t, "when all have been killed")
	})
}

// restartAfterKill kills a service, and does something until the supervisor has started it again.
func restartAfterKill(t *testing.T, running *runningMesh, name string, meanwhile func()) {
	t.Helper()
	was := running.service(t, name)
	kill(t, was.PID)
	await(t, name+" is started again", func() error {
		meanwhile()
		f, err := running.readFile()
		if err != nil {
			return err
		}
		if now, _ := f.Service(name); now.PID == was.PID {
			return errors.New("mesh.json has the old process")
		} else if now.Restarts != 1 {
			return fmt.Errorf("%d restarts", now.Restarts)
		}
		return nil
	})
}
