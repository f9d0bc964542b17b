package call

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"google.golang.org/grpc"

	rolecallv1 "example.com/rolecall/gen/rolecall/v1"
	"example.com/rolecall/interceptors"
	"example.com/rolecall/interceptors/proof"
)

// Peer is a server: where it is, as grpc.NewClient takes it, and the SPIFFE ID that it must prove to have.
type Peer struct {
	Target string
	ID     spiffeid.ID
}

// Client calls as one workload, and signs what methods want signed. Safe for concurrent use.
type Client struct {
	// ID is the workload's.
	ID     spiffeid.ID
	guard  *interceptors.Guard
	proofs *proof.Feature
	keys   Peer
	conns  []*grpc.ClientConn
}

// NewClient makes a client. The key server, the zero Peer where there is none, gets to know the key that requests are signed
// with; direct calls do without.
func NewClient(source interceptors.Source, keys Peer) (*Client, error) {
	svid, err := source.GetX509SVID()
	if err != nil {
		return nil, err
	}
	c := &Client{ID: svid.ID, keys: keys, proofs: proof.New(proof.Config{Target: keys.Target, Server: keys.ID})}
	quiet := slog.New(slog.DiscardHandler) // what fails is told in the error of the call
	c.guard, err = interceptors.New(source, nil, interceptors.Logger(quiet), interceptors.Audit(slog.DiscardHandler), interceptors.With(c.proofs))
	if err != nil {
		return nil, err
	}
	return c, nil
}

// Dial makes a connection, which lasts as long as the client. Not for concurrent use.
func (c *Client) Dial(p Peer) (*grpc.ClientConn, error) {
	conn, err := c.guard.NewClient(p.Target, p.ID, grpc.WithStatsHandler(tracing{}))
	if err == nil {
		c.conns = append(c.conns, conn)
	}
	return conn, err
}

// Close ends everything.
func (c *Client) Close() error {
	var errs []error
	for _, conn := range c.conns {
		errs = append(errs, conn.Close())
	}
	return errors.Join(append(errs, c.guard.Close())...)
}

// Sign signs a request to a server for somebody else to pass on, once the key server knows the key. With roles, all others are
// given up for it. via is who alone may pass it on; the zero ID: whoever holds the role.
func (c *Client) Sign(ctx context.Context, m Method, server, via spiffeid.ID, request *Message, roles []string) (*rolecallv1.SignedRequest, error) {
	if c.keys.Target == "" {
		return nil, errors.New("whoever verifies a request that is passed on asks the key server for the signer's key, and none is known here")
	}
	if err := c.proofs.Announced(ctx); err != nil {
		return nil, fmt.Errorf("%w; whoever verifies a request that is passed on asks it for the key: is it up? rolecall status tells", err)
	}
	var opts []proof.SignOption
	if len(roles) > 0 {
		opts = append(opts, proof.Narrowed(roles...))
	}
	if !via.IsZero() {
		opts = append(opts, proof.Via(via))
	}
	return c.proofs.Signer().Sign(server, request, m.Full(), opts...)
}
