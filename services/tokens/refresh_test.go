package tokens_test

import (
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	tokensv1 "example.com/rolecall/gen/tokens/v1"
	usersv1 "example.com/rolecall/gen/users/v1"
	"example.com/rolecall/internal/node"
	"example.com/rolecall/internal/node/nodetest"
	"example.com/rolecall/internal/store/storetest"
	"example.com/rolecall/services/tokens"
	"example.com/rolecall/services/users"
)

const (
	grace       = 10 * time.Second
	idleLife    = 30 * 24 * time.Hour
	sessionLife = 90 * 24 * time.Hour
)

func TestFiftyParallelRefreshesMakeOneChain(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		h.clock.stop() // however long it takes, all come within the grace
		first := h.login(t)
		pairs := make([]*tokensv1.TokenPair, 50)
		var wg sync.WaitGroup
		for i := range pairs {
			wg.Go(func() {
				var err error
				if pairs[i], err = h.refresh(t, first.GetRefreshToken()); err != nil {
					t.Errorf("refresh %d: %v", i, err)
				}
			})
		}
		wg.Wait()
		for i, pair := range pairs {
			if pair.GetRefreshToken() != pairs[0].GetRefreshToken() || pair.GetRefreshToken() == first.GetRefreshToken() {
				t.Errorf("refresh %d began a chain of its own", i)
			}
		}
		second := h.mustRefresh(t, pairs[0].GetRefreshToken())
		h.waitSelf(t, second.GetAccessToken(), "")
		h.clock.advance(grace + time.Second)
		h.mustRefresh(t, second.GetRefreshToken())
		if log := h.log.String(); strings.Contains(log, "used again") {
			t.Error("a false alarm was given")
		}
	})
}

func TestAnOldRefreshTokenAfterTheGraceEndsAllSessionsAndRaisesTheGeneration(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		pair, elsewhere := h.login(t), h.login(t)
		h.waitSelf(t, elsewhere.GetAccessToken(), "")
		messages, _ := follow(t, h.admin, &tokensv1.WatchRevocationsRequest{})
		if m := next(t, messages); m.GetSnapshotComplete() == nil {
			t.Fatalf("got %v, want an empty snapshot", m)
		}
		second := h.mustRefresh(t, pair.GetRefreshToken())
		h.clock.advance(grace + time.Millisecond)
		if _, err := h.refresh(t, pair.GetRefreshToken()); reason(err) != "SESSION_ENDED" || status.Code(err) != codes.Unauthenticated {
			t.Fatalf("the stolen token: got %v, want SESSION_ENDED", err)
		}
		sessions, generation := map[string]bool{}, int64(0)
		for generation == 0 {
			switch m := next(t, messages); {
			case m.GetSession() != nil:
				sessions[m.GetSession().GetSession()] = true
			case m.GetGeneration() != nil:
				generation = m.GetGeneration().GetGeneration()
			}
		}
		for _, token := range []string{pair.GetAccessToken(), elsewhere.GetAccessToken()} {
			if id := part(t, token, 1)["sid"].(string); !sessions[id] {
				t.Errorf("watchers were not told of session %s", id)
			}
		}
		if generation != 1 {
			t.Errorf("watchers were told of generation %d, want 1", generation)
		}
		for _, token := range []string{pair.GetAccessToken(), second.GetAccessToken(), elsewhere.GetAccessToken()} {
			h.waitSelf(t, token, "USER_TOKEN_REVOKED")
		}
		for _, token := range []string{second.GetRefreshToken(), elsewhere.GetRefreshToken()} {
			if _, err := h.refresh(t, token); reason(err) != "SESSION_ENDED" {
				t.Errorf("another refresh token of the user: got %v, want SESSION_ENDED", err)
			}
		}
		// Showing it once more raises nothing: what it could end has ended.
		if _, err := h.refresh(t, pair.GetRefreshToken()); reason(err) != "SESSION_ENDED" {
			t.Errorf("the stolen token once more: %v", err)
		}
		again, err := h.bob.Login(nodetest.Context(t), &tokensv1.LoginRequest{Username: "dave", Password: password})
		if err != nil {
			t.Fatalf("log in again: %v", err)
		}
		if got := part(t, again.GetTokens().GetAccessToken(), 1)["gen"]; got != 1.0 {
			t.Errorf("the new token is of generation %v, want 1", got)
		}
		h.waitSelf(t, again.GetTokens().GetAccessToken(), "")
		h.mustRefresh(t, again.GetTokens().GetRefreshToken())
	})
}

func TestATheftIsActedOnWhileUsersIsAwayAndTheGenerationRaisedWhenItIsBack(t *testing.T) {
	t.Parallel()
	h := newHouse(t, "")
	way := nodetest.NewRelay(t)
	way.To(h.users)
	config := h.config()
	service := h.mesh.Start(t, "tokens", "", tokens.New(config), toUsers(h, way))
	h.bob = tokensv1.NewTokensServiceClient(h.mesh.Client(t, "/operator/bob", service))
	first := h.login(t)
	second := h.mustRefresh(t, first.GetRefreshToken())
	h.clock.advance(grace + time.Second)
	way.To(nil)
	if _, err := h.refresh(t, second.GetRefreshToken()); status.Code(err) != codes.Unavailable {
		t.Fatalf("refresh while users is away: got %v, want Unavailable", err)
	}
	if _, err := h.refresh(t, first.GetRefreshToken()); reason(err) != "SESSION_ENDED" {
		t.Fatalf("the stolen token: got %v, want SESSION_ENDED", err)
	}
	if _, err := h.refresh(t, second.GetRefreshToken()); reason(err) != "SESSION_ENDED" {
		t.Errorf("the session goes on although users is away: %v", err)
	}
	way.To(h.users)
	wait(t, "the generation is raised", func() bool {
		answer, err := h.bob.Login(nodetest.Context(t), &tokensv1.LoginRequest{Username: "dave", Password: password})
		return err == nil && part(t, answer.GetTokens().GetAccessToken(), 1)["gen"] == 1.0
	})
}

func TestARefreshThatUsersDoesNotAnswerUsesNothingUp(t *testing.T) {
	t.Parallel()
	h := newHouse(t, "")
	way := nodetest.NewRelay(t)
	way.To(h.users)
	service := h.mesh.Start(t, "tokens", "", tokens.New(h.config()), toUsers(h, way))
	h.bob = tokensv1.NewTokensServiceClient(h.mesh.Client(t, "/operator/bob", service))
	pair := h.login(t)
	way.To(nil)
	for range 3 {
		if _, err := h.refresh(t, pair.GetRefreshToken()); status.Code(err) != codes.Unavailable {
			t.Fatalf("refresh while users is away: got %v, want Unavailable", err)
		}
		h.clock.advance(grace)
	}
	way.To(h.users)
	wait(t, "the same token refreshes", func() bool {
		_, err := h.refresh(t, pair.GetRefreshToken())
		return err == nil
	})
}

func TestAClockThatIsSetBackDoesNotStretchTheGrace(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		first := h.login(t)
		second := h.mustRefresh(t, first.GetRefreshToken())
		h.clock.advance(-time.Hour) // or the clock of another replica is behind
		third := h.mustRefresh(t, second.GetRefreshToken())
		if _, err := h.refresh(t, first.GetRefreshToken()); reason(err) != "SESSION_ENDED" {
			t.Errorf("a token that was used an hour ahead: got %v, want SESSION_ENDED", err)
		}
		if _, err := h.refresh(t, third.GetRefreshToken()); reason(err) != "SESSION_ENDED" {
			t.Errorf("the session goes on: %v", err)
		}
	})
}

func TestUsersThatAnswersSlowlyDoesNotUseTheGraceUp(t *testing.T) {
	t.Parallel()
	var armed, late atomic.Int64
	h := newHouse(t, "", func(c *tokens.Config) {
		now := c.Now
		c.Now = func() time.Time {
			at := now().Add(time.Duration(late.Load()))
			// Others look at the clock too.
			if armed.Load() == 1 && strings.Contains(string(debug.Stack()), ").Refresh(") && armed.CompareAndSwap(1, 0) {
				late.Store(int64(9500 * time.Millisecond)) // is how long users takes
			}
			return at
		}
	})
	h.clock.stop()
	first := h.login(t)
	armed.Store(1)
	second := h.mustRefresh(t, first.GetRefreshToken()) // the answer is lost
	if late.Load() == 0 {
		t.Fatal("users has answered at once")
	}
	late.Add(int64(time.Second))
	again, err := h.refresh(t, first.GetRefreshToken())
	if err != nil || again.GetRefreshToken() != second.GetRefreshToken() {
		t.Errorf("a second after the answer the used token is taken for stolen: %v", err)
	}
}

func TestASessionOfAGenerationThatUsersDoesNotKnowYetEnds(t *testing.T) {
	t.Parallel()
	h := newHouse(t, storetest.SQLite(t))
	if _, err := h.admin.RevokeUser(nodetest.Context(t), &tokensv1.RevokeUserRequest{Username: "dave"}); err != nil {
		t.Fatal(err)
	}
	pair := h.login(t)
	if err := h.tokens.Stop(); err != nil {
		t.Fatal(err)
	}
	// users is put back from a copy of before the raise.
	old := h.mesh.Start(t, "users", "", users.New(users.Config{Cost: cheap, Now: h.clock.now}))
	h.alice = usersv1.NewUsersServiceClient(h.mesh.Client(t, "/operator/alice", old))
	h.create(t, "dave", "orders.customer")
	service := h.mesh.Start(t, "tokens", h.database, tokens.New(h.config()), func(cfg *node.Config) {
		cfg.Peers = map[string]node.Peer{"users": old.Peer()}
	})
	bob := tokensv1.NewTokensServiceClient(h.mesh.Client(t, "/operator/bob", service))
	if _, err := bob.Refresh(nodetest.Context(t), &tokensv1.RefreshRequest{RefreshToken: pair.GetRefreshToken()}); reason(err) != "SESSION_ENDED" {
		t.Errorf("got %v, want SESSION_ENDED", err)
	}
}

func TestSessionsEnd(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		idle, used := h.login(t), h.login(t)
		if got, want := idle.GetRefreshExpires().AsTime().Sub(h.clock.now()), idleLife; got > want || got < want-time.Minute {
			t.Errorf("refresh_expires is in %s, want %s", got, want)
		}
		h.clock.advance(idleLife - time.Minute)
		used = h.mustRefresh(t, used.GetRefreshToken())
		h.clock.advance(2 * time.Minute)
		if _, err := h.refresh(t, idle.GetRefreshToken()); reason(err) != "SESSION_ENDED" {
			t.Errorf("after 30 days without a refresh: got %v, want SESSION_ENDED", err)
		}
		for range 2 {
			h.clock.advance(idleLife - 3*time.Minute)
			used = h.mustRefresh(t, used.GetRefreshToken())
		}
		left := used.GetRefreshExpires().AsTime().Sub(h.clock.now())
		if left > 10*time.Minute || left < 0 {
			t.Errorf("refresh_expires is in %s, beyond the 90 days", left)
		}
		h.clock.advance(left + time.Second)
		if _, err := h.refresh(t, used.GetRefreshToken()); reason(err) != "SESSION_ENDED" {
			t.Errorf("after 90 days: got %v, want SESSION_ENDED", err)
		}
		if sum := 3*idleLife - sessionLife; sum != 0 {
			t.Fatalf("the test counts wrong: %s", sum)
		}
	})
}

func TestWhatEndsSessions(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		end func(t *testing.T, h *house, pair *tokensv1.TokenPair) error
		all bool
	}{
		"disabling the user": {func(t *testing.T, h *house, _ *tokensv1.TokenPair) error {
			_, err := h.alice.Disable(nodetest.Context(t), &usersv1.DisableRequest{Username: "dave"})
			return err
		}, true},
		"a new password": {func(t *testing.T, h *house, _ *tokensv1.TokenPair) error {
			_, err := h.alice.SetPassword(nodetest.Context(t), &usersv1.SetPasswordRequest{Username: "dave", Password: "another password"})
			return err
		}, true},
		"logging out": {func(t *testing.T, h *house, pair *tokensv1.TokenPair) error {
			_, err := h.bob.Revoke(nodetest.Context(t), &tokensv1.RevokeRequest{RefreshToken: pair.GetRefreshToken()})
			return err
		}, false},
		"logging out with a token that is used up": {func(t *testing.T, h *house, pair *tokensv1.TokenPair) error {
			h.mustRefresh(t, pair.GetRefreshToken())
			h.clock.advance(time.Hour)
			_, err := h.bob.Revoke(nodetest.Context(t), &tokensv1.RevokeRequest{RefreshToken: pair.GetRefreshToken()})
			return err
		}, false},
		"logging out everywhere": {func(t *testing.T, h *house, pair *tokensv1.TokenPair) error {
			_, err := h.bob.Revoke(nodetest.Context(t), &tokensv1.RevokeRequest{RefreshToken: pair.GetRefreshToken(), Everywhere: true})
			return err
		}, true},
		"a stolen refresh token": {func(t *testing.T, h *house, pair *tokensv1.TokenPair) error {
			if _, err := h.refresh(t, pair.GetRefreshToken()); err == nil { // by the thief, and then by the owner
				h.clock.advance(grace + time.Millisecond)
				if _, err := h.refresh(t, pair.GetRefreshToken()); reason(err) != "SESSION_ENDED" {
					return err
				}
			}
			return nil
		}, true},
		"an administrator": {func(t *testing.T, h *house, _ *tokensv1.TokenPair) error {
			_, err := h.admin.RevokeUser(nodetest.Context(t), &tokensv1.RevokeUserRequest{Username: "dave"})
			return err
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var h *house
			var pair, other *tokensv1.TokenPair
			nodetest.WithinASecond(t, "the access token is refused", func() time.Duration {
				h = newHouse(t, "")
				pair, other = h.login(t), h.login(t)
				h.waitSelf(t, pair.GetAccessToken(), "")
				h.waitSelf(t, other.GetAccessToken(), "")
				for range 2 { // asked again it is no error
					if err := tc.end(t, h, pair); err != nil {
						t.Fatalf("end: %v", err)
					}
					if name == "logging out with a token that is used up" {
						break
					}
				}
				began := time.Now()
				h.waitSelf(t, pair.GetAccessToken(), "USER_TOKEN_REVOKED")
				return time.Since(began)
			})
			if _, err := h.refresh(t, pair.GetRefreshToken()); reason(err) != "SESSION_ENDED" {
				t.Errorf("refresh: got %v, want SESSION_ENDED", err)
			}
			want := ""
			if tc.all {
				want = "USER_TOKEN_REVOKED"
			}
			h.waitSelf(t, other.GetAccessToken(), want)
			if _, err := h.refresh(t, other.GetRefreshToken()); (err != nil) != tc.all {
				t.Errorf("refresh of another session: %v", err)
			}
		})
	}
}

func TestRefreshTokensThatAreNoneGetOneAnswer(t *testing.T) {
	t.Parallel()
	h := newHouse(t, "")
	pair := h.login(t)
	forged := []byte(pair.GetRefreshToken())
	forged[12] ^= 1 // in the locator: of no session
	var first error
	for name, token := range map[string]string{
		"empty":                    "",
		"an access token":          pair.GetAccessToken(),
		"a megabyte":               strings.Repeat("A", 1<<20),
		"of no session":            string(forged),
		"padded":                   pair.GetRefreshToken() + "=",
		"with a line break":        pair.GetRefreshToken()[:40] + "\n" + pair.GetRefreshToken()[41:],
		"SQL in it":                "rolecall_' OR '1'='1" + strings.Repeat("A", 53),
		"without its prefix":       pair.GetRefreshToken()[9:],
		"with an upper-case start": strings.ToUpper(pair.GetRefreshToken()),
	} {
		_, err := h.refresh(t, token)
		if reason(err) != "SESSION_ENDED" {
			t.Errorf("%s: got %v, want SESSION_ENDED", name, err)
		}
		if first == nil {
			first = err
		}
		if err == nil || err.Error() != first.Error() {
			t.Errorf("%s: got %v, another answer than %v", name, err, first)
		}
		if _, err := h.bob.Revoke(nodetest.Context(t), &tokensv1.RevokeRequest{RefreshToken: token, Everywhere: true}); err != nil {
			t.Errorf("revoke %s: %v, want no error (RFC 7009 section 2.2)", name, err)
		}
	}
	h.mustRefresh(t, pair.GetRefreshToken())
}
