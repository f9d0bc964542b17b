package session_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"

	tokensv1 "example.com/rolecall/gen/tokens/v1"
	"example.com/rolecall/internal/node/nodetest"
	"example.com/rolecall/internal/session"
	"example.com/rolecall/services/tokens"
)

func TestAUserLogsInAndOut(t *testing.T) {
	t.Parallel()
	d := newDesk(t, tokens.Config{})
	if _, err := d.session.Fresh(nodetest.Context(t)); !errors.Is(err, session.ErrNone) || !strings.Contains(err.Error(), "rolecall login USER") {
		t.Errorf("before the login: %v, want ErrNone with the next step", err)
	}
	logged := d.login(t)
	if !slices.Equal(logged.Roles, []string{"orders.customer", "orders.reader"}) || logged.Username != "dave" || logged.Through != bob {
		t.Errorf("logged in: %s through %s with %v", logged.Username, logged.Through, logged.Roles)
	}
	if reason := d.self(t, logged.AccessToken); reason != "" {
		t.Errorf("the access token is refused: %s", reason)
	}
	fresh, err := d.session.Fresh(nodetest.Context(t))
	if err != nil || fresh.AccessToken != logged.AccessToken || d.client.refreshes.Load() != 0 {
		t.Errorf("a token that is good for minutes was refreshed %d times: %v", d.client.refreshes.Load(), err)
	}
	username, err := d.session.Logout(nodetest.Context(t), false)
	if err != nil || username != "dave" {
		t.Errorf("logout: %s, %v", username, err)
	}
	d.refused(t, logged.AccessToken, "USER_TOKEN_REVOKED")
	if _, err := os.Stat(d.path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the file is still there: %v", err)
	}
	if _, err := d.session.Logout(nodetest.Context(t), false); !errors.Is(err, session.ErrNone) {
		t.Errorf("logout again: %v, want ErrNone", err)
	}
}

func TestARefusedLoginKeepsTheSessionThatIsThere(t *testing.T) {
	t.Parallel()
	d := newDesk(t, tokens.Config{})
	before := d.login(t)
	_, err := d.session.Login(nodetest.Context(t), "dave", "wrong password", bob, nil)
	if nodetest.Reason(err) != "LOGIN_REFUSED" || strings.Contains(err.Error(), "wrong password") || strings.Contains(err.Error(), "rpc error") {
		t.Errorf("got %v, want LOGIN_REFUSED in plain words", err)
	}
	if d.stored(t).RefreshToken != before.RefreshToken {
		t.Error("the session was replaced")
	}
}

func TestANewLoginEndsTheSessionThatWasThere(t *testing.T) {
	t.Parallel()
	d := newDesk(t, tokens.Config{})
	before := d.login(t)
	after := d.login(t, "orders.customer", "orders.nothing")
	if !slices.Equal(after.Roles, []string{"orders.customer"}) {
		t.Errorf("the roles are %v, want no more than dave has of those asked for", after.Roles)
	}
	d.refused(t, before.AccessToken, "USER_TOKEN_REVOKED")
	if reason := d.self(t, after.AccessToken); reason != "" {
		t.Errorf("the new token is refused: %s", reason)
	}
}

func TestATokenIsRefreshedWhenItIsTooOldForACall(t *testing.T) {
	t.Parallel()
	d := newDesk(t, tokens.Config{})
	logged := d.login(t, "orders.customer")
	d.age(t)
	fresh, err := d.session.Fresh(nodetest.Context(t))
	if err != nil {
		t.Fatal(err)
	}
	if fresh.AccessToken == logged.AccessToken || fresh.RefreshToken == logged.RefreshToken || !slices.Equal(fresh.Roles, logged.Roles) || fresh.Through != bob {
		t.Errorf("refreshed: %s through %s with %v", fresh.Username, fresh.Through, fresh.Roles)
	}
	if left := fresh.AccessExpires.Sub(fresh.RefreshAt); left < 59*time.Second || left > 61*time.Second {
		t.Errorf("it is given out until %s before its end, want a minute", left)
	}
}

func TestATokenOfAShortLifeIsGivenOutForHalfOfIt(t *testing.T) {
	t.Parallel()
	d := newDesk(t, tokens.Config{AccessLife: 100 * time.Second})
	logged := d.login(t)
	if left := logged.AccessExpires.Sub(logged.RefreshAt); left < 40*time.Second || left > 51*time.Second {
		t.Errorf("it is given out until %s before its end, want about 50 s", left)
	}
	if fresh, err := d.session.Fresh(nodetest.Context(t)); err != nil || fresh.AccessToken != logged.AccessToken {
		t.Errorf("it was refreshed at once: %v", err)
	}
}

func TestManyWhoRefreshAtOnceTakeTurns(t *testing.T) {
	t.Parallel()
	d := newDesk(t, tokens.Config{Grace: time.Millisecond}) // whoever shows a used token is a thief at once
	d.login(t)
	d.age(t)
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if _, err := session.At(d.path, d.client).Fresh(nodetest.Context(t)); err != nil {
				t.Errorf("fresh: %v", err)
			}
		})
	}
	wg.Wait()
	if n := d.client.refreshes.Load(); n != 1 {
		t.Errorf("%d refreshes, want 1", n)
	}
}

// A process ends after tokens has rotated the refresh token and before the file is written.
func TestARefreshWhoseAnswerIsLostIsHealedWithinTheGrace(t *testing.T) {
	t.Parallel()
	d := newDesk(t, tokens.Config{})
	logged := d.login(t)
	d.age(t)
	d.stop()
	d.client.lose.Store(true)
	if _, err := d.session.Fresh(nodetest.Context(t)); err == nil {
		t.Fatal("the answer was not lost")
	}
	if d.stored(t).RefreshToken != logged.RefreshToken {
		t.Fatal("the file was written all the same")
	}
	for round := range 3 {
		fresh, err := d.session.Fresh(nodetest.Context(t))
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		if reason := d.self(t, fresh.AccessToken); reason != "" {
			t.Errorf("round %d: the token is refused: %s", round, reason)
		}
		d.age(t)
	}
}

func TestARefreshWhoseAnswerIsLostForLongerThanTheGraceEndsTheSession(t *testing.T) {
	t.Parallel()
	d := newDesk(t, tokens.Config{})
	d.login(t)
	d.age(t)
	d.client.lose.Store(true)
	if _, err := d.session.Fresh(nodetest.Context(t)); err == nil {
		t.Fatal("the answer was not lost")
	}
	d.offset.Store(int64(11 * time.Second))
	if _, err := d.session.Fresh(nodetest.Context(t)); !errors.Is(err, session.ErrNone) {
		t.Errorf("got %v, want ErrNone", err)
	}
}

// Attack: theft of a refresh token.
func TestATheftIsNoticedByTheOwner(t *testing.T) {
	t.Parallel()
	d := newDesk(t, tokens.Config{})
	logged := d.login(t)
	// Eve has read the file, and bob's key with it: only then is the token of use to her.
	stolen, err := d.client.TokensServiceClient.Refresh(nodetest.Context(t), &tokensv1.RefreshRequest{RefreshToken: logged.RefreshToken})
	if err != nil {
		t.Fatalf("the thief: %v", err)
	}
	d.offset.Store(int64(11 * time.Second))
	d.age(t)
	_, err = d.session.Fresh(nodetest.Context(t))
	if !errors.Is(err, session.ErrNone) || !strings.Contains(err.Error(), "somebody else may have used its token") {
		t.Errorf("the owner: %v, want ErrNone that warns", err)
	}
	if _, err := os.Stat(d.path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the file is still there: %v", err)
	}
	d.refused(t, stolen.GetTokens().GetAccessToken(), "USER_TOKEN_REVOKED")
	if _, err := d.client.TokensServiceClient.Refresh(nodetest.Context(t), &tokensv1.RefreshRequest{RefreshToken: stolen.GetTokens().GetRefreshToken()}); nodetest.Reason(err) != "SESSION_ENDED" {
		t.Errorf("the thief goes on: %v, want SESSION_ENDED", err)
	}
}

func TestLogoutEverywhereEndsTheSessionsOfOtherMachines(t *testing.T) {
	t.Parallel()
	d := newDesk(t, tokens.Config{})
	other := session.At(filepath.Join(t.TempDir(), "session.json"), d.client)
	there, err := other.Login(nodetest.Context(t), "dave", password, bob, nil)
	if err != nil {
		t.Fatal(err)
	}
	d.login(t)
	if _, err := d.session.Logout(nodetest.Context(t), true); err != nil {
		t.Fatalf("logout: %v", err)
	}
	d.refused(t, there.AccessToken, "USER_TOKEN_REVOKED")
	if _, err := other.Logout(nodetest.Context(t), true); !errors.Is(err, session.ErrNone) {
		t.Errorf("one that has ended ends all: %v, want ErrNone", err)
	}
}

func TestWithoutTokensTheSessionStays(t *testing.T) {
	t.Parallel()
	d := newDesk(t, tokens.Config{})
	d.login(t)
	d.age(t)
	if err := d.tokens.Stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := d.session.Fresh(nodetest.Context(t)); err == nil || errors.Is(err, session.ErrNone) {
		t.Errorf("fresh: %v, want an error that is not ErrNone", err)
	}
	if _, err := d.session.Logout(nodetest.Context(t), false); err == nil || errors.Is(err, session.ErrNone) {
		t.Errorf("logout: %v, want an error that is not ErrNone", err)
	}
	d.stored(t)
}

// breaks does something after each refresh, before its answer is kept.
type breaks struct {
	tokensv1.TokensServiceClient
	do func()
}

// Refresh implements the client.
func (b breaks) Refresh(ctx context.Context, in *tokensv1.RefreshRequest, opts ...grpc.CallOption) (*tokensv1.RefreshResponse, error) {
	answer, err := b.TokensServiceClient.Refresh(ctx, in, opts...)
	b.do()
	return answer, err
}

func TestAFileThatCannotBeWrittenEndsThisSessionAndNoOther(t *testing.T) {
	t.Parallel()
	d := newDesk(t, tokens.Config{})
	other := session.At(filepath.Join(t.TempDir(), "session.json"), d.client)
	there, err := other.Login(nodetest.Context(t), "dave", password, bob, nil)
	if err != nil {
		t.Fatal(err)
	}
	d.login(t)
	d.age(t)
	old, err := os.ReadFile(d.path)
	if err != nil {
		t.Fatal(err)
	}
	full := session.At(d.path, breaks{d.client, func() {
		// A folder in its place stands for a full disk.
		if err := errors.Join(os.Remove(d.path), os.MkdirAll(filepath.Join(d.path, "in the way"), 0o700)); err != nil {
			t.Error(err)
		}
	}})
	if _, err := full.Fresh(nodetest.Context(t)); err == nil || !strings.Contains(err.Error(), "log in again") {
		t.Errorf("got %v, want an error with the next step", err)
	}
	if err := errors.Join(os.RemoveAll(d.path), os.WriteFile(d.path, old, 0o600)); err != nil {
		t.Fatal(err)
	}
	d.offset.Store(int64(11 * time.Second))
	if _, err := d.session.Fresh(nodetest.Context(t)); !errors.Is(err, session.ErrNone) {
		t.Errorf("the session that could not be kept: %v, want ErrNone", err)
	}
	if _, err := d.client.TokensServiceClient.Refresh(nodetest.Context(t), &tokensv1.RefreshRequest{RefreshToken: there.RefreshToken}); err != nil {
		t.Errorf("the session on the other machine: %v", err)
	}
}

func TestWhoeverInterruptsARefreshLosesNoAnswer(t *testing.T) {
	t.Parallel()
	d := newDesk(t, tokens.Config{})
	logged := d.login(t)
	d.age(t)
	ctx, interrupt := context.WithCancel(nodetest.Context(t))
	defer interrupt()
	interrupted := session.At(d.path, before{d.client, interrupt})
	fresh, err := interrupted.Fresh(ctx)
	if err != nil || fresh.RefreshToken == logged.RefreshToken || d.stored(t).RefreshToken != fresh.RefreshToken {
		t.Errorf("the answer was not kept: %v", err)
	}
}

// before does something before each refresh.
type before struct {
	tokensv1.TokensServiceClient
	do func()
}

// Refresh implements the client.
func (b before) Refresh(ctx context.Context, in *tokensv1.RefreshRequest, opts ...grpc.CallOption) (*tokensv1.RefreshResponse, error) {
	b.do()
	return b.TokensServiceClient.Refresh(ctx, in, opts...)
}
