package usertoken_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	tokensv1 "example.com/rolecall/gen/tokens/v1"
	"example.com/rolecall/interceptors"
)

// TestSecretsInLogsAuditRecordsErrorDetailsAndPanics looks for tokens, and for the parts of them, wherever something is
// written down.
func TestSecretsInLogsAuditRecordsErrorDetailsAndPanics(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	const password = "correct-horse-battery-staple"
	good := m.tokens.mint("alice", []string{"shop.vip"})
	m.tokens.revoke(sessionRevoked("gone"))
	revoked := m.tokens.mint("alice", nil, claim("sid", "gone"))
	m.revokedSoon(t, revoked)
	tokens := []string{
		good, revoked,
		m.tokens.mint("alice", nil, at("iat", -700), at("nbf", -700), at("exp", -100)),
		m.tokens.mint("alice", nil, ownKey), m.tokens.mint("alice", nil, header("kid", "unknown")),
		m.tokens.mint("alice", nil, header("jku", "https://evil.example")), m.tokens.mint("alice", nil, claim("aud", "other")),
	}
	conn := m.dial(seller)
	var seen strings.Builder
	note := func(err error) {
		fmt.Fprintf(&seen, "%v %+v %v\n", err, err, status.Convert(err).Proto())
	}
	for _, token := range tokens {
		note(invoke(interceptors.AsUser(timeout(t), token), conn, self))
		note(invoke(interceptors.AsUser(timeout(t), token), conn, buy))
		note(invoke(metadata.AppendToOutgoingContext(timeout(t), "authorization", token), conn, self))
		note(invoke(metadata.AppendToOutgoingContext(timeout(t), "authorization", "Bearer "+token, "authorization", token), conn, self))
	}
	for _, panicking := range []func(context.Context){
		func(ctx context.Context) { panic(ctx) },
		func(ctx context.Context) { panic(fmt.Sprintf("%v %+v %#v", ctx, ctx, ctx)) },
		func(ctx context.Context) { panic(interceptors.AsUser(ctx, good)) },
		func(ctx context.Context) { panic(fmt.Sprintf("%#v", interceptors.AsUser(ctx, good))) },
		func(ctx context.Context) { panic(interceptors.CallerFrom(ctx)) },
		func(ctx context.Context) {
			user, _ := interceptors.CallerFrom(ctx).User()
			panic(fmt.Sprintf("%v %+v %#v", user, user, user))
		},
		func(context.Context) { panic(&tokensv1.LoginRequest{Username: "alice", Password: password}) },
		func(context.Context) { panic(&tokensv1.RefreshRequest{RefreshToken: password}) },
	} {
		m.shop.handling(func(ctx context.Context) error { panicking(ctx); return nil })
		err := invoke(interceptors.AsUser(timeout(t), good), conn, self)
		refused(t, err, codes.Internal, "INTERNAL")
		note(err)
	}
	m.shop.stream = func(stream grpc.ServerStream) error { panic(fmt.Sprintf("%v %#v", stream.Context(), stream.Context())) }
	stream, err := open(interceptors.AsUser(timeout(t), good), conn)
	must(t, err)
	err = stream.RecvMsg(&tokensv1.GetKeysRequest{})
	refused(t, err, codes.Internal, "INTERNAL")
	note(err)
	eventually(t, "nine panics in the log", func() bool { return strings.Count(m.log.String(), "panic while serving a call") == 9 })
	must(t, m.guard.Close()) // writes what is left
	for where, text := range map[string]string{"errors": seen.String(), "audit records": m.audit.String(), "log": m.log.String()} {
		if text == "" {
			t.Errorf("nothing was written to %s", where)
		}
		if strings.Contains(text, password) {
			t.Errorf("%s hold a password:\n%s", where, text)
		}
		for i, token := range tokens {
			for j, part := range strings.Split(token, ".") {
				if j > 0 && strings.Contains(text, part) {
					t.Errorf("%s hold part %d of token %d", where, j+1, i+1)
				}
			}
		}
	}
}
