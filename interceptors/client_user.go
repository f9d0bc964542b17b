package interceptors

import (
	"context"
	"slices"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"example.com/rolecall/interceptors/internal/feature"
)

type outgoingUserKey struct{}

// outgoingUser is kept by its address, so that a context that is printed shows no token.
type outgoingUser struct{ token string }

// AsUser makes the calls of the returned context on behalf of the user whose access token is given; an empty one makes them
// on behalf of nobody. Without AsUser a call that is made while serving another, with the context of that one or one that
// was made from it, goes on behalf of that one's user. The token goes to servers of the own trust domain and to no other.
func AsUser(ctx context.Context, token string) context.Context {
	return context.WithValue(ctx, outgoingUserKey{}, &outgoingUser{token})
}

// userToken returns the token of the user on whose behalf calls with ctx are made, or "".
func userToken(ctx context.Context) string {
	if u, ok := ctx.Value(outgoingUserKey{}).(*outgoingUser); ok {
		return u.token
	}
	if c, ok := ctx.Value(callKey{}).(*call); ok && c.user != nil {
		return c.user.Token
	}
	return ""
}

// withUser adds the token of the user to the metadata of a call to a server of the own trust domain.
func withUser(ctx context.Context) context.Context {
	token := userToken(ctx)
	if token == "" {
		return ctx
	}
	md, _ := metadata.FromOutgoingContext(ctx)
	if len(md.Get(feature.TokenKey)) > 0 {
		return ctx // set by hand, which the caller answers for
	}
	return metadata.AppendToOutgoingContext(ctx, feature.TokenKey, "Bearer "+token)
}

func passUserStream(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	return open(withUser(ctx), desc, cc, method, opts...)
}

// withoutUser refuses a call to a server of another trust domain whose metadata holds the user's token: a handler that
// passes on all the metadata it got would hand its users over to strangers.
func withoutUser(ctx context.Context) error {
	md, _ := metadata.FromOutgoingContext(ctx)
	outgoing := md.Get(feature.TokenKey)
	if len(outgoing) == 0 {
		return nil
	}
	// The user of the call that is served is looked for even where AsUser names another, or nobody.
	tokens := []string{userToken(ctx)}
	if c, ok := ctx.Value(callKey{}).(*call); ok && c.user != nil {
		tokens = append(tokens, c.user.Token)
	}
	incoming := metadata.ValueFromIncomingContext(ctx, feature.TokenKey)
	for _, value := range outgoing {
		leaks := func(token string) bool { return token != "" && strings.Contains(value, token) }
		if slices.ContainsFunc(tokens, leaks) || slices.Contains(incoming, value) {
			return status.Error(codes.Internal, "interceptors: the token of a user does not leave the trust domain: remove authorization from the metadata of the call")
		}
	}
	return nil
}

func keepUserStream(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	if err := withoutUser(ctx); err != nil {
		return nil, err
	}
	return open(ctx, desc, cc, method, opts...)
}
