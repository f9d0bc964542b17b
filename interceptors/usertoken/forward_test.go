package usertoken_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"example.com/rolecall/interceptors"
	"example.com/rolecall/interceptors/usertoken"
	"example.com/rolecall/rolecalltest"
)

// subjectOf returns on whose behalf a call is made; empty for nobody.
func subjectOf(ctx context.Context) string {
	user, _ := interceptors.CallerFrom(ctx).User()
	return user.Subject()
}

func TestTheUserGoesAlongDownTheChain(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	back, conn := m.another("/service/back")
	seen := make(chan string, 1)
	back.handling(func(ctx context.Context) error { seen <- subjectOf(ctx); return nil })
	back.stream = func(stream grpc.ServerStream) error { seen <- subjectOf(stream.Context()); return nil }
	other := m.tokens.mint("bernd", nil)
	for _, c := range []struct {
		name string
		call func(context.Context) error
		want string
	}{
		{"with the context of the call", func(ctx context.Context) error { return invoke(ctx, conn, look) }, "alice"},
		{"from a goroutine", func(ctx context.Context) error {
			done := make(chan error)
			go func() { done <- invoke(ctx, conn, look) }()
			return <-done
		}, "alice"},
		{"with a context that outlives the call", func(ctx context.Context) error { return invoke(context.WithoutCancel(ctx), conn, look) }, "alice"},
		{"with a stream", func(ctx context.Context) error {
			stream, err := open(ctx, conn)
			if err == nil {
				if err = stream.RecvMsg(nil); errors.Is(err, io.EOF) {
					err = nil
				}
			}
			return err
		}, "alice"},
		{"beside other metadata", func(ctx context.Context) error {
			return invoke(metadata.AppendToOutgoingContext(ctx, "x-request-id", "7"), conn, look)
		}, "alice"},
		{"on behalf of nobody", func(ctx context.Context) error { return invoke(interceptors.AsUser(ctx, ""), conn, look) }, ""},
		{"on behalf of another", func(ctx context.Context) error { return invoke(interceptors.AsUser(ctx, other), conn, look) }, "bernd"},
		{"with a context that is not the call's", func(context.Context) error { return invoke(timeout(t), conn, look) }, ""},
		{"set by hand", func(ctx context.Context) error {
			return invoke(metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+other), conn, look)
		}, "bernd"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m.shop.handling(c.call)
			must(t, invoke(interceptors.AsUser(timeout(t), m.tokens.mint("alice", nil)), m.dial(seller), look))
			if got := <-seen; got != c.want {
				t.Errorf("the next server is called on behalf of %q, want %q", got, c.want)
			}
		})
	}
}

// TestATokenForwardedToAServerOfAnotherTrustDomain: the client never sends it.
func TestATokenForwardedToAServerOfAnotherTrustDomain(t *testing.T) {
	t.Parallel()
	foreign := rolecalltest.NewCA(t, "other.local")
	m := newMesh(t, func(c *meshConfig) { c.roles = interceptors.BindingsYAML([]byte(roles)) })
	theirs := foreign.Source("/service/partner")
	theirs.Trust(foreign, m.ca)
	guard := m.newGuard(theirs, interceptors.BindingsYAML([]byte("trustDomain: other.local\nbindings:\n  - {role: shop.seller, members: [spiffe://mesh.local/service/shop]}\n")),
		interceptors.Audit(slog.DiscardHandler), quiet(),
		interceptors.With(usertoken.NewFast(usertoken.Config{Target: m.target, Server: foreign.ID(tokensPath)}, 0)))
	partner, server := &shop{}, guard.NewServer()
	partner.register(t, server)
	addr := serve(t, server, listen(t))
	got := make(chan metadata.MD, 1)
	partner.handling(func(ctx context.Context) error {
		md, _ := metadata.FromIncomingContext(ctx)
		got <- md
		return nil
	})
	// The shop's own guard trusts the partner's roots as well.
	ours := m.ca.Source(shopPath)
	ours.Trust(m.ca, foreign)
	calling := m.newGuard(ours, nil, interceptors.Audit(slog.DiscardHandler), quiet())
	conn, err := calling.NewClient(addr, foreign.ID("/service/partner"))
	must(t, err)
	defer conn.Close()

	token := m.tokens.mint("alice", nil)
	clean := func(t *testing.T) {
		t.Helper()
		if md := <-got; len(md.Get("authorization")) != 0 {
			t.Errorf("the server of another trust domain was sent %v", md)
		}
	}
	t.Run("AsUser", func(t *testing.T) {
		must(t, invoke(interceptors.AsUser(timeout(t), token), conn, sell))
		clean(t)
	})
	inCall := func(call func(context.Context) error) error {
		m.shop.handling(call)
		return invoke(interceptors.AsUser(timeout(t), token), m.dial(seller), look)
	}
	t.Run("the user of the call that is served", func(t *testing.T) {
		must(t, inCall(func(ctx context.Context) error { return invoke(ctx, conn, sell) }))
		clean(t)
	})
	passAll := func(ctx context.Context) context.Context {
		md, _ := metadata.FromIncomingContext(ctx)
		return metadata.NewOutgoingContext(ctx, metadata.MD{"authorization": md.Get("authorization")})
	}
	for name, call := range map[string]func(context.Context) error{
		"a handler that passes on all metadata":           func(ctx context.Context) error { return invoke(passAll(ctx), conn, sell) },
		"a handler that passes on all metadata, a stream": func(ctx context.Context) error { _, err := open(passAll(ctx), conn); return err },
		"a handler that sets it by hand": func(ctx context.Context) error {
			return invoke(metadata.AppendToOutgoingContext(ctx, "authorization", "bearer "+token), conn, sell)
		},
		"a handler that passes on all metadata on behalf of nobody": func(ctx context.Context) error {
			return invoke(interceptors.AsUser(passAll(ctx), ""), conn, sell)
		},
		"a handler that sets it by hand on behalf of nobody": func(ctx context.Context) error {
			return invoke(metadata.AppendToOutgoingContext(interceptors.AsUser(ctx, ""), "authorization", "bearer "+token), conn, sell)
		},
		"a server that verifies no users passes on all metadata": func(context.Context) error {
			came := metadata.NewIncomingContext(timeout(t), metadata.Pairs("authorization", "Bearer "+token))
			return invoke(passAll(came), conn, sell)
		},
		"AsUser and by hand": func(context.Context) error {
			ctx := metadata.AppendToOutgoingContext(timeout(t), "authorization", "Bearer "+token)
			return invoke(interceptors.AsUser(ctx, token), conn, sell)
		},
	} {
		t.Run(name, func(t *testing.T) {
			before := partner.reached.Load()
			refused(t, inCall(call), codes.Internal, "")
			if partner.reached.Load() != before {
				t.Error("the server of another trust domain was called")
			}
		})
	}
	t.Run("a token of the partner's own, by hand", func(t *testing.T) {
		// It is refused there, since this test's partner has no such user, but it was sent: it is not ours to keep.
		err := inCall(func(ctx context.Context) error {
			return invoke(metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer theirs"), conn, sell)
		})
		refused(t, err, codes.Unauthenticated, "USER_TOKEN_INVALID")
	})
}
