package interceptors

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"google.golang.org/grpc"

	"example.com/rolecall/interceptors/internal/identity"
)

// NewClient makes a client of the one server that proves to be this SPIFFE ID, whatever name or address it is found
// under. The caller's options are applied first: credentials among them are replaced by the guard's. Like
// grpc.NewClient it does not connect before the first call.
//
// A connection is closed when the server's certificate expires, loses its root or is denied by the bindings. A unary
// call that a server refused because the certificate shown on the connection has expired is made once more over a new
// one.
func (g *Guard) NewClient(target string, server spiffeid.ID, opts ...grpc.DialOption) (*grpc.ClientConn, error) {
	if server.Path() == "" {
		return nil, fmt.Errorf("interceptors: %q is not the SPIFFE ID of a workload: it has no path", server)
	}
	c := &client{guard: g}
	own := []grpc.DialOption{
		grpc.WithTransportCredentials(identity.Client(g.credentials("dial", c.opened, c.closed), server)),
		grpc.WithChainUnaryInterceptor(c.retryExpired),
	}
	// Innermost: no interceptor of the caller's comes after them.
	if server.TrustDomain() == g.trustDomain {
		own = append(own, grpc.WithChainUnaryInterceptor(passUser), grpc.WithChainStreamInterceptor(passUserStream))
	} else {
		own = append(own, grpc.WithChainUnaryInterceptor(keepUser), grpc.WithChainStreamInterceptor(keepUserStream))
	}
	conn, err := grpc.NewClient(target, slices.Concat(opts, own)...)
	if err != nil {
		return nil, fmt.Errorf("interceptors: client of %s: %w", server, err)
	}
	return conn, nil
}

// client is one NewClient.
type client struct{ guard *Guard }

func (cl *client) opened(conn *identity.Conn) error {
	c := &connection{Conn: conn, client: cl, shownUntil: cl.guard.shownUntil()}
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
		return &identity.HandshakeError{Reason: reason, Claimed: c.ID.String(), Err: errors.New(refusals[r].name + ": " + detail)}
	}
	c.judged = now
	return nil
}

// shownUntil returns the end of the certificate that is shown to servers now.
func (g *Guard) shownUntil() time.Time {
	svid, err := g.source.GetX509SVID()
	if err != nil {
		return time.Time{}
	}
	return svid.Certificates[0].NotAfter
}

// retryExpired makes a call once more if the server found the certificate of this connection expired and there is a
// newer one. The refusal came before the handler, so nothing has happened yet.
func (cl *client) retryExpired(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	err := invoke(ctx, method, req, reply, cc, opts...)
	if err == nil || !refusedFor(err, peerCertificateExpired, method) || !cl.closeExpired() {
		return err
	}
	return invoke(ctx, method, req, reply, cc, opts...)
}

// closeExpired closes the client's connections on which a certificate was shown that has expired, if there is a newer one.
func (cl *client) closeExpired() (closed bool) {
	now, newest := cl.guard.now(), cl.guard.shownUntil()
	_, clients := cl.guard.open()
	for _, c := range clients {
		if c.client == cl && newest.After(c.shownUntil) && !now.Before(c.shownUntil) {
			_ = c.Close()
			closed = true
		}
	}
	return closed
}
