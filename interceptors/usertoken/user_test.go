package usertoken_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"example.com/rolecall/interceptors"
)

func TestTheHandlerSeesTheUser(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	type seen struct {
		Subject, Issuer, Through, Attributes string
		Auth, Expires                        time.Time
		Roles, WorkloadRoles                 []string
		Customer, Vip, Unknown               bool
	}
	var got seen
	m.shop.handling(func(ctx context.Context) error {
		caller := interceptors.CallerFrom(ctx)
		user, ok := caller.User()
		if !ok {
			t.Error("no user")
		}
		got = seen{
			user.Subject(), user.Issuer(), user.LoggedInThrough(), string(user.Attributes()), user.AuthTime(), user.TokenExpires(),
			user.Roles(), caller.Roles(), caller.HasUserRole("shop.customer"), user.HasRole("shop.vip"), user.HasRole("shop.unknown"),
		}
		return caller.RequireUserRole("shop.vip")
	})
	at := time.Unix(time.Now().Unix(), 0)
	token := m.tokens.mint("alice", []string{"shop.vip", "not.here"}, claim("ext", map[string]any{"floor": 3}), claim("iat", at.Unix()), claim("exp", at.Unix()+600), claim("auth_time", at.Unix()-60))
	must(t, invoke(interceptors.AsUser(timeout(t), token), m.dial(seller), self))
	want := seen{
		"alice", "spiffe://mesh.local/service/tokens", "spiffe://mesh.local/operator/bob", `{"floor":3}`, at.Add(-time.Minute), at.Add(10 * time.Minute),
		[]string{"shop.customer", "shop.vip"}, []string{"shop.seller"}, true, true, false,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("want (-), got (+):\n%s", diff)
	}
	m.audit.find(t, map[string]any{"verdict": "allowed", "user": "alice", "workload": "spiffe://mesh.local/operator/bob"})

	refused(t, invoke(timeout(t), m.dial(seller), self), codes.Unauthenticated, "USER_REQUIRED")
}

func TestAHandlerThatChangesAttributesChangesThemForNobodyElse(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	m.shop.handling(func(ctx context.Context) error {
		user, _ := interceptors.CallerFrom(ctx).User()
		got := user.Attributes()
		if string(got) != `{"limit":100}` {
			t.Errorf("the handler sees %s", got)
		}
		clear(got)
		return nil
	})
	conn, token := m.dial(seller), m.tokens.mint("alice", nil, claim("ext", map[string]any{"limit": 100}))
	for range 2 {
		must(t, invoke(interceptors.AsUser(timeout(t), token), conn, self))
	}
}

func TestUsersAndWorkloadsLendEachOtherNothing(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	bob, carol := m.dial(seller), m.dial(nobody)
	customer := m.tokens.mint("alice", []string{"shop.customer"})
	for _, c := range []struct {
		name   string
		as     string
		conn   *grpc.ClientConn
		narrow []string
		code   codes.Code
		reason string
		want   map[string]string
	}{
		{name: "both hold what they must", as: customer, conn: bob},
		{name: "the user holds a role that includes it", as: m.tokens.mint("alice", []string{"shop.vip"}), conn: bob},
		{name: "no user", conn: bob, code: codes.Unauthenticated, reason: "USER_REQUIRED",
			want: map[string]string{"method": buy, "login_method": "/tokens.v1.TokensService/Login"}},
		{name: "the user lacks the role", as: m.tokens.mint("alice", nil), conn: bob, code: codes.PermissionDenied, reason: "USER_ROLE_REQUIRED",
			want: map[string]string{"method": buy, "role": "shop.customer"}},
		{name: "the user holds the workload's role", as: m.tokens.mint("alice", []string{"shop.seller"}), conn: bob, code: codes.PermissionDenied, reason: "USER_ROLE_REQUIRED",
			want: map[string]string{"method": buy, "role": "shop.customer"}},
		{name: "token of a user through a workload that lacks the role", as: customer, conn: carol, code: codes.PermissionDenied, reason: "ROLE_REQUIRED",
			want: map[string]string{"method": buy, "role": "shop.seller"}},
		{name: "the user holds both roles, the workload none", as: m.tokens.mint("alice", []string{"shop.customer", "shop.seller"}), conn: carol,
			code: codes.PermissionDenied, reason: "ROLE_REQUIRED", want: map[string]string{"method": buy, "role": "shop.seller"}},
		{name: "the workload gave its role up", as: customer, conn: bob, narrow: []string{}, code: codes.PermissionDenied, reason: "ROLE_REQUIRED",
			want: map[string]string{"method": buy, "role": "shop.seller", "narrowed": "true"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx := interceptors.AsUser(timeout(t), c.as)
			if c.narrow != nil {
				ctx = interceptors.Narrow(ctx, c.narrow...)
			}
			err := invoke(ctx, c.conn, buy)
			if c.reason == "" {
				must(t, err)
				return
			}
			if diff := cmp.Diff(c.want, refused(t, err, c.code, c.reason)); diff != "" {
				t.Errorf("metadata, want (-), got (+):\n%s", diff)
			}
		})
	}
	if n := m.shop.reached.Load(); n != 2 {
		t.Errorf("the handler was reached %d times, want 2", n)
	}
	m.audit.find(t, map[string]any{"verdict": "denied", "reason": "USER_ROLE_REQUIRED", "user": "alice", "workload": "spiffe://mesh.local/operator/bob", "method": buy})
}

func TestRequireUserRoleInAHandler(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	m.shop.handling(func(ctx context.Context) error { return interceptors.CallerFrom(ctx).RequireUserRole("shop.vip") })
	conn := m.dial(nobody)
	as := func(roles ...string) context.Context {
		return interceptors.AsUser(timeout(t), m.tokens.mint("alice", roles))
	}
	must(t, invoke(as("shop.vip"), conn, look))
	if info := refused(t, invoke(as("shop.customer"), conn, look), codes.PermissionDenied, "USER_ROLE_REQUIRED"); info["role"] != "shop.vip" {
		t.Errorf("metadata %v", info)
	}
	refused(t, invoke(timeout(t), conn, look), codes.Unauthenticated, "USER_REQUIRED")
	m.audit.find(t, map[string]any{"event": "handler", "reason": "USER_ROLE_REQUIRED", "user": "alice"})
	refused(t, interceptors.CallerFrom(t.Context()).RequireUserRole("shop.vip"), codes.Unauthenticated, "USER_REQUIRED")

	// What the call rests on goes while it lasts.
	m.shop.handling(func(ctx context.Context) error {
		caller := interceptors.CallerFrom(ctx)
		must(t, caller.RequireUserRole("shop.vip"))
		m.tokens.revoke(generationRaised("alice", 2))
		eventually(t, "role that is not held any more", func() bool { return !caller.HasUserRole("shop.vip") })
		if user, _ := caller.User(); user.Roles() != nil {
			t.Errorf("a revoked user holds %v", user.Roles())
		}
		return caller.RequireUserRole("shop.vip")
	})
	refused(t, invoke(as("shop.vip"), conn, look), codes.Unauthenticated, "USER_TOKEN_REVOKED")
}

func TestOutsideOfACallThereIsNoUser(t *testing.T) {
	t.Parallel()
	user, ok := interceptors.CallerFrom(t.Context()).User()
	if ok || user.Own() || user.Subject() != "" || user.Issuer() != "" || user.HasRole("shop.customer") || user.Roles() != nil || user.Attributes() != nil || !user.TokenExpires().IsZero() {
		t.Errorf("got %v", user)
	}
}

func TestTheHeaderIsReadStrictly(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	conn := m.dial(nobody)
	token := m.tokens.mint("alice", nil)
	for _, c := range []struct {
		name   string
		values []string
		want   string // reason; empty: the call goes through
	}{
		{"as RFC 6750 has it", []string{"Bearer " + token}, ""},
		{"scheme in lower case", []string{"bearer " + token}, ""},
		{"scheme in upper case", []string{"BEARER " + token}, ""},
		{"authorization twice", []string{"Bearer " + token, "Bearer " + token}, "USER_TOKEN_INVALID"},
		{"authorization twice, once empty", []string{"", "Bearer " + token}, "USER_TOKEN_INVALID"},
		{"two tokens with a comma", []string{"Bearer " + token + ",Bearer " + token}, "USER_TOKEN_INVALID"},
		{"empty", []string{""}, "USER_TOKEN_INVALID"},
		{"empty token", []string{"Bearer "}, "USER_TOKEN_INVALID"},
		{"a scheme alone", []string{"Bearer"}, "USER_TOKEN_INVALID"},
		{"no scheme", []string{token}, "USER_TOKEN_INVALID"},
		{"another scheme", []string{"Basic YWxpY2U6c2VjcmV0"}, "USER_TOKEN_INVALID"},
		{"two spaces", []string{"Bearer  " + token}, "USER_TOKEN_INVALID"},
		{"a token of 8 KiB and one byte", []string{"Bearer " + token + pad(8<<10+1-len(token))}, "USER_TOKEN_INVALID"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			ctx := metadata.NewOutgoingContext(timeout(t), metadata.MD{"authorization": c.values})
			err := invoke(ctx, conn, self)
			if c.want == "" {
				must(t, err)
				return
			}
			refused(t, err, codes.Unauthenticated, c.want)
			// A method that needs no user takes no bad token either.
			refused(t, invoke(ctx, conn, look), codes.Unauthenticated, c.want)
		})
	}
}

func pad(n int) string {
	return strings.Repeat("A", n)
}
