package interceptors

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	"example.com/rolecall/interceptors/internal/feature"
	"example.com/rolecall/interceptors/internal/identity"
)

// NewClient makes a client of the one server that proves to be this SPIFFE ID, whatever name or address it is found
// under. The caller's options are applied first: credentials among them are replaced by the guard's. Like
// grpc.NewClient it does not connect before the first call.
//
// A unary method that may be called twice without harm, and asks for no proof, is called again by gRPC when nobody knows what came
// of it; a service config of the caller's (grpc.WithDefaultServiceConfig) replaces that, and one that comes with the addresses of
// the server, from DNS for instance, is not read. A request to a method with exactly_once gets a request_id if it has
// none, before the interceptors that the caller gives by grpc.WithChainUnaryInterceptor.
//
// A connection is closed when the server's certificate expires, loses its root or is denied by the bindings. A unary
// call that a server refused because the certificate shown on the connection has expired is made once more over a new
// one.
func (g *Guard) NewClient(target string, server spiffeid.ID, opts ...grpc.DialOption) (*grpc.ClientConn, error) {
	if server.Path() == "" {
		return nil, fmt.Errorf("interceptors: %q is not the SPIFFE ID of a workload: it has no path", server)
	}
	c := &client{guard: g}
	// Outermost, so that a request keeps its request_id however often an interceptor of the caller's sends it.
	first := []grpc.DialOption{
		grpc.WithDefaultServiceConfig(g.methods.serviceConfig()),
		grpc.WithChainUnaryInterceptor(g.methods.begin), grpc.WithChainStreamInterceptor(beginStream),
	}
	own := []grpc.DialOption{
		grpc.WithTransportCredentials(identity.Client(g.credentials("dial", c.opened, c.closed), server)),
		// Whoever answers for the name of the server would have requests sent again that must not be: gRPC reads a service config
		// from a TXT record (gRFC A2). What the caller gives with grpc.WithDefaultServiceConfig counts.
		grpc.WithDisableServiceConfig(),
	}
	// Innermost: no interceptor of the caller's comes after them.
	c.ownDomain = server.TrustDomain() == g.trustDomain
	if c.ownDomain {
		own = append(own, grpc.WithChainStreamInterceptor(passUserStream))
	} else {
		own = append(own, grpc.WithChainStreamInterceptor(keepUserStream))
	}
	own = append(own, c.features(server)...)
	own = append(own, grpc.WithChainUnaryInterceptor(c.retryExpired))
	conn, err := grpc.NewClient(target, slices.Concat(first, opts, own)...)
	if err != nil {
		return nil, fmt.Errorf("interceptors: client of %s: %w", server, err)
	}
	return conn, nil
}

// client is one NewClient.
type client struct {
	guard     *Guard
	ownDomain bool                          // the server is of the guard's own trust domain
	unary     []grpc.UnaryClientInterceptor // of features
}

// features returns the interceptors of the guard's features for one client.
func (cl *client) features(server spiffeid.ID) []grpc.DialOption {
	cl.guard.mu.Lock()
	calling := cl.guard.calling
	cl.guard.mu.Unlock()
	var opts []grpc.DialOption
	for _, f := range calling {
		unary, stream := f.Client(feature.ClientEnv{Server: server, CloseOld: cl.closeOld})
		if unary != nil {
			cl.unary = append(cl.unary, unary)
		}
		if stream != nil {
			opts = append(opts, grpc.WithChainStreamInterceptor(stream))
		}
	}
	return opts
}

func (cl *client) opened(conn *identity.Conn) error {
	c := &connection{Conn: conn, client: cl, shown: cl.guard.shown()}
	if err := cl.guard.judgeServer(c, cl.guard.state.Load(), cl.guard.now()); err != nil {
		return err
	}
	conn.Tag = c
	cl.guard.mu.Lock()
	defer cl.guard.mu.Unlock()
	if cl.guard.closed.Load() {
		return errClosed
	}
	cl.guard.clients[c] = struct{}{}
	return nil
}

func (cl *client) closed(conn *identity.Conn) {
	cl.guard.mu.Lock()
	defer cl.guard.mu.Unlock()
	delete(cl.guard.clients, conn.Tag.(*connection))
}

// judgeServer says why a server is no longer, or not at all, to be talked to.
func (g *Guard) judgeServer(c *connection, now *state, wall time.Time) error {
	if c.judged == now {
		return nil
	}
	if r, detail := standing(c, now, wall); r != allowed {
		reason := identity.ReasonUntrusted
		if r == identityDenied {
			reason = identity.ReasonDenied
		}
		return &identity.HandshakeError{Reason: reason, Claimed: c.ID.String(), Err: errors.New(r.String() + ": " + detail)}
	}
	c.judged = now
	return nil
}

// shown is the certificate that a server was shown.
type shown struct {
	leaf  [sha256.Size]byte
	until time.Time
}

// shown returns the certificate that is shown to servers now.
func (g *Guard) shown() shown {
	svid, err := g.source.GetX509SVID()
	if err != nil {
		return shown{}
	}
	return shown{sha256.Sum256(svid.Certificates[0].Raw), svid.Certificates[0].NotAfter}
}

// retryExpired makes a call once more if the server found the certificate of this connection expired and there is a
// newer one. The refusal came before the handler, else it would not name the method, so nothing has happened yet.
func (cl *client) retryExpired(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	err := cl.call(ctx, method, req, reply, cc, invoke, opts...)
	switch {
	case err == nil:
		return nil
	case feature.RefusedFor(err, proofRequired.String(), method):
		return cl.explainUnsigned(err)
	case feature.RefusedFor(err, peerCertificateExpired.String(), method) && cl.closeExpired():
		return cl.call(ctx, method, req, reply, cc, invoke, opts...)
	}
	return err
}

// explainUnsigned adds to a refusal what is missing at this end.
func (cl *client) explainUnsigned(err error) error {
	if slices.Contains(cl.guard.options.annotations, "requires_proof") {
		return err
	}
	refusal := status.Convert(err).Proto()
	refusal.Message += ": this client's guard signs none, give it interceptors.With(proof.New(...))"
	return status.ErrorProto(refusal)
}

// call takes the user along, and has the features do their part. It is one interceptor with retryExpired, because gRPC
// allocates for each.
func (cl *client) call(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	if cl.ownDomain {
		ctx = withUser(ctx)
	} else if err := withoutUser(ctx); err != nil {
		return err
	}
	if len(cl.unary) == 0 {
		return invoke(ctx, method, req, reply, cc, opts...)
	}
	for _, inner := range slices.Backward(cl.unary[1:]) {
		next := invoke
		invoke = func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, opts ...grpc.CallOption) error {
			return inner(ctx, method, req, reply, cc, next, opts...)
		}
	}
	return cl.unary[0](ctx, method, req, reply, cc, invoke, opts...)
}

// closeExpired closes the client's connections on which a certificate was shown that has expired, and tells whether the present
// one has not. There may be none left to close: the server closes them as well, and so does another call.
func (cl *client) closeExpired() bool {
	now, newest := cl.guard.now(), cl.guard.shown()
	if !now.Before(newest.until) {
		return false
	}
	cl.closeShown(func(s shown) bool { return !now.Before(s.until) })
	return true
}

// closeOld closes the client's connections on which another certificate was shown than the one that would be now.
func (cl *client) closeOld() bool {
	newest := cl.guard.shown()
	return !newest.until.IsZero() && cl.closeShown(func(s shown) bool { return s != newest })
}

// noticeTimeout is how long closeShown waits for gRPC, which needs no more than a look at the connection.
const noticeTimeout = 5 * time.Second

// closeShown closes the client's connections on which a certificate was shown that is bad, and tells whether there was one. It
// waits until gRPC has noticed: a call that is made again would else be sent on one of them.
func (cl *client) closeShown(bad func(shown) bool) bool {
	_, clients := cl.guard.open()
	clients = slices.DeleteFunc(clients, func(c *connection) bool { return c.client != cl || !bad(c.shown) })
	for _, c := range clients {
		c.Cut()
	}
	patience, cancel := context.WithTimeout(context.Background(), noticeTimeout)
	defer cancel()
	for _, c := range clients {
		select {
		case <-c.Gone():
		case <-patience.Done():
			_ = c.Close() // nobody is to wait for it again
		}
	}
	return len(clients) > 0
}
