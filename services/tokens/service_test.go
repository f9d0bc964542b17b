package tokens_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	tokensv1 "example.com/rolecall/gen/tokens/v1"
	usersv1 "example.com/rolecall/gen/users/v1"
	"example.com/rolecall/internal/node/nodetest"
	"example.com/rolecall/services/tokens"
)

func TestAUserLogsInAndCalls(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		pair := h.login(t)
		self := h.waitSelf(t, pair.GetAccessToken(), "")
		if got := self.GetUser().GetUsername(); got != "dave" {
			t.Errorf("self: the user is %q", got)
		}
		if got := self.GetLoggedInThrough(); got != "spiffe://mesh.local/operator/bob" {
			t.Errorf("self: logged in through %q", got)
		}
		if want := []string{"orders.customer", "orders.reader"}; !slices.Equal(pair.GetRoles(), want) {
			t.Errorf("roles: got %v, want %v", pair.GetRoles(), want)
		}
		header := part(t, pair.GetAccessToken(), 0)
		if len(header) != 3 || header["alg"] != "ES256" || header["typ"] != "at+jwt" || header["kid"] == "" {
			t.Errorf("header: %v", header)
		}
		got := part(t, pair.GetAccessToken(), 1)
		issued := got["iat"].(float64)
		for _, random := range []string{"jti", "sid"} {
			if len(got[random].(string)) != 22 {
				t.Errorf("%s is %v, not 128 bits in base64url", random, got[random])
			}
			delete(got, random)
		}
		want := map[string]any{
			"iss": "spiffe://mesh.local/service/tokens", "aud": "spiffe://mesh.local", "sub": "dave", "client_id": "spiffe://mesh.local/operator/bob",
			"roles": []any{"orders.customer", "orders.reader"}, "gen": 0.0, "iat": issued, "nbf": issued, "exp": issued + 600, "auth_time": issued,
			"ext": map[string]any{"tier": "<gold>"},
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("claims (-want +got):\n%s", diff)
		}
		if pair.GetAccessExpires().AsTime().Unix() != int64(issued)+600 {
			t.Errorf("access_expires is %s", pair.GetAccessExpires().AsTime())
		}
		again := h.mustRefresh(t, pair.GetRefreshToken())
		h.waitSelf(t, again.GetAccessToken(), "")
		if a, b := part(t, pair.GetAccessToken(), 1), part(t, again.GetAccessToken(), 1); a["sid"] != b["sid"] || a["jti"] == b["jti"] || b["auth_time"] != a["auth_time"] {
			t.Errorf("the refreshed token is not of the same session: %v, %v", a, b)
		}
	})
}

func TestATokenCarriesNeverMoreThanTheUserHolds(t *testing.T) {
	t.Parallel()
	h := newHouse(t, "")
	for name, tc := range map[string]struct{ asked, want []string }{
		"none asked for":            {[]string{}, nil},
		"one of two":                {[]string{"orders.reader"}, []string{"orders.reader"}},
		"one that is not held":      {[]string{"orders.admin"}, nil},
		"held and not held, twice":  {[]string{"orders.admin", "orders.reader", "orders.reader"}, []string{"orders.reader"}},
		"one that nobody ever owns": {[]string{"no.such"}, nil},
	} {
		pair := h.login(t, tc.asked...)
		if !slices.Equal(pair.GetRoles(), tc.want) {
			t.Errorf("%s: got %v, want %v", name, pair.GetRoles(), tc.want)
		}
		if again := h.mustRefresh(t, pair.GetRefreshToken()); !slices.Equal(again.GetRoles(), tc.want) {
			t.Errorf("%s, refreshed: got %v, want %v", name, again.GetRoles(), tc.want)
		}
	}
	_, err := h.bob.Login(nodetest.Context(t), &tokensv1.LoginRequest{
		Username: "dave", Password: password, RoleSubset: &tokensv1.RoleSubset{Roles: []string{"orders.*"}},
	})
	if status.Code(err) != codes.InvalidArgument {
		t.Errorf("a pattern as a role: got %v, want InvalidArgument", err)
	}
}

func TestSetRolesTakesEffectOnRefreshAndEndsOlderTokens(t *testing.T) {
	t.Parallel()
	h := newHouse(t, "")
	all, narrow := h.login(t), h.login(t, "orders.reader", "orders.writer")
	h.waitSelf(t, all.GetAccessToken(), "")
	if _, err := h.alice.SetRoles(nodetest.Context(t), &usersv1.SetRolesRequest{Username: "dave", Roles: []string{"orders.writer"}}); err != nil {
		t.Fatalf("set roles: %v", err)
	}
	h.waitSelf(t, all.GetAccessToken(), "USER_TOKEN_REVOKED") // within a second, which internal/e2e measures
	for _, pair := range []*tokensv1.TokenPair{all, narrow} {
		again := h.mustRefresh(t, pair.GetRefreshToken())
		if want := []string{"orders.writer"}; !slices.Equal(again.GetRoles(), want) {
			t.Errorf("roles after the refresh: got %v, want %v", again.GetRoles(), want)
		}
		h.waitSelf(t, again.GetAccessToken(), "")
	}
}

func TestTheLargestAttributesAndRolesFitIntoAToken(t *testing.T) {
	t.Parallel()
	h := newHouse(t, "")
	var many []string
	for i := range 60 {
		many = append(many, "o.r"+strings.Repeat("o", 9)+string(rune('a'+i/26))+string(rune('a'+i%26)))
	}
	attributes := `{"a":"` + strings.Repeat("<", 4096-8) + `"}`
	ctx := nodetest.Context(t)
	if _, err := h.alice.Create(ctx, &usersv1.CreateRequest{
		User: &usersv1.User{Username: strings.Repeat("u", 64), Roles: many, Attributes: attributes}, Password: password,
	}); err != nil {
		t.Fatalf("create: %v", err)
	}
	answer, err := h.bob.Login(ctx, &tokensv1.LoginRequest{Username: strings.Repeat("u", 64), Password: password})
	if err != nil {
		t.Fatalf("login: %v", err)
	}
	token := answer.GetTokens().GetAccessToken()
	t.Logf("the token has %d bytes", len(token))
	if got := part(t, token, 1)["ext"]; got.(map[string]any)["a"] != strings.Repeat("<", 4096-8) {
		t.Error("the attributes are not those that were set")
	}
	h.waitSelf(t, token, "")
}

func TestLoginThroughAWorkloadWithoutTheRoleIsRefused(t *testing.T) {
	t.Parallel()
	h := newHouse(t, "")
	pair := h.login(t)
	carol := tokensv1.NewTokensServiceClient(h.mesh.Client(t, "/operator/carol", h.tokens))
	ctx := nodetest.Context(t)
	_, login := carol.Login(ctx, &tokensv1.LoginRequest{Username: "dave", Password: password})
	_, refresh := carol.Refresh(ctx, &tokensv1.RefreshRequest{RefreshToken: pair.GetRefreshToken()})
	_, revoke := carol.Revoke(ctx, &tokensv1.RevokeRequest{RefreshToken: pair.GetRefreshToken()})
	_, user := h.bob.RevokeUser(ctx, &tokensv1.RevokeUserRequest{Username: "dave"})
	for what, err := range map[string]error{"login": login, "refresh": refresh, "revoke": revoke, "revoke a user": user} {
		if reason(err) != "ROLE_REQUIRED" {
			t.Errorf("%s: got %v, want ROLE_REQUIRED", what, err)
		}
	}
	h.mustRefresh(t, pair.GetRefreshToken())
}

func TestARefreshTokenIsGoodForTheWorkloadItWasGivenToAlone(t *testing.T) {
	t.Parallel()
	h := newHouse(t, "")
	pair := h.login(t)
	shop := tokensv1.NewTokensServiceClient(h.mesh.Client(t, "/service/shop", h.tokens))
	if _, err := shop.Refresh(nodetest.Context(t), &tokensv1.RefreshRequest{RefreshToken: pair.GetRefreshToken()}); reason(err) != "SESSION_ENDED" {
		t.Errorf("refresh by another workload: got %v, want SESSION_ENDED", err)
	}
	h.mustRefresh(t, pair.GetRefreshToken())
}

func TestTokensStartsBeforeUsersAndLogsInOnceThatIsThere(t *testing.T) {
	t.Parallel()
	h := newHouse(t, "")
	way := nodetest.NewRelay(t)
	other := h.mesh.Start(t, "tokens", "", tokens.Setup, h.peer, toUsers(h, way))
	bob := tokensv1.NewTokensServiceClient(h.mesh.Client(t, "/operator/bob", other))
	_, err := bob.Login(nodetest.Context(t), &tokensv1.LoginRequest{Username: "dave", Password: password})
	if status.Code(err) != codes.Unavailable {
		t.Errorf("login without users: got %v, want Unavailable", err)
	}
	way.To(h.users)
	wait(t, "login works", func() bool {
		_, err := bob.Login(nodetest.Context(t), &tokensv1.LoginRequest{Username: "dave", Password: password})
		return err == nil
	})
}

func TestConfigurationThatCannotWorkIsRefused(t *testing.T) {
	t.Parallel()
	for name, config := range map[string]tokens.Config{
		"tokens that live longer than verifiers take":  {AccessLife: time.Hour},
		"tokens that live for half a second":           {AccessLife: 1500 * time.Millisecond},
		"a negative grace":                             {Grace: -1},
		"keys that are published for longer than used": {KeyLife: time.Minute, KeyOverlap: time.Hour},
	} {
		if err := tokens.New(config)(t.Context(), nil); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
