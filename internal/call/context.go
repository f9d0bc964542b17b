package call

import (
	"context"

	"google.golang.org/grpc/metadata"

	"example.com/rolecall/interceptors"
	"example.com/rolecall/interceptors/proof"
)

// With is what goes along with a call.
type With struct {
	// Token is the access token of the user on whose behalf it is made; empty: of nobody.
	Token string
	// Roles are those that the caller keeps for the call; none: all.
	Roles []string
	// Metadata is names and values in turn.
	Metadata []string
	// Trace, if there is one, is filled by a connection that Dial has made.
	Trace *Trace
}

// Context returns the context to call a method with. Methods with requires_proof that this program has no descriptor of, in
// which the guard would look, are signed on the word of the server that described them.
func (w With) Context(ctx context.Context, m Method) context.Context {
	if w.Token != "" {
		ctx = interceptors.AsUser(ctx, w.Token)
	}
	if len(w.Roles) > 0 {
		ctx = interceptors.Narrow(ctx, w.Roles...)
	}
	if m.Reflected && m.Requires.Proof {
		ctx = proof.Always(ctx)
	}
	if w.Trace != nil {
		ctx = context.WithValue(ctx, traceKey{}, w.Trace)
	}
	return metadata.AppendToOutgoingContext(ctx, w.Metadata...)
}
