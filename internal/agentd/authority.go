package agentd

import (
	"context"
	"crypto/x509"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"google.golang.org/grpc"

	authorityv1 "example.com/rolecall/gen/authority/v1"
	"example.com/rolecall/pki/agent"
)

// Times of talking to the authority.
const (
	callTimeout   = 10 * time.Second
	watchPatience = 15 * time.Second // for the first message of a stream of bundles
	firstRetry    = 250 * time.Millisecond
	lastRetry     = 10 * time.Second
)

// authority signs over gRPC: the agent.Signer and agent.JWTSigner. Safe for concurrent use.
type authority struct {
	client authorityv1.AuthorityServiceClient
	bundle *bundleKeeper
	log    *slog.Logger
}

func newAuthority(conn *grpc.ClientConn, bundle *bundleKeeper, log *slog.Logger) *authority {
	return &authority{client: authorityv1.NewAuthorityServiceClient(conn), bundle: bundle, log: log}
}

var (
	_ agent.Signer    = (*authority)(nil)
	_ agent.JWTSigner = (*authority)(nil)
)

// Sign has a CSR signed. It waits for the authority to be reached for as long as ctx allows.
func (a *authority) Sign(ctx context.Context, csr []byte) ([]*x509.Certificate, error) {
	response, err := a.client.IssueCertificate(ctx, &authorityv1.IssueCertificateRequest{Csr: csr}, grpc.WaitForReady(true))
	if err != nil {
		return nil, err
	}
	chain, err := parse(response.GetChain())
	if err != nil {
		return nil, fmt.Errorf("chain of the authority: %w", err)
	}
	return chain, a.bundle.takeRoots(response.GetRoots(), response.GetBundleSequence())
}

// SignJWT has a JWT-SVID signed. It waits for the authority to be reached for as long as ctx allows.
func (a *authority) SignJWT(ctx context.Context, id spiffeid.ID, audience []string) (string, error) {
	response, err := a.client.IssueJwtSvid(ctx, &authorityv1.IssueJwtSvidRequest{SpiffeId: id.String(), Audience: audience}, grpc.WaitForReady(true))
	if err != nil {
		return "", err
	}
	return response.GetToken(), nil
}

// watchBundle takes over every bundle that the authority sends, until ctx ends. A stream that ends, as each does when its
// connection is old, is opened again.
func (a *authority) watchBundle(ctx context.Context) {
	wait := firstRetry
	failures := 0
	for ctx.Err() == nil {
		received, err := a.watchOnce(ctx)
		if ctx.Err() != nil {
			return
		}
		if received {
			wait, failures = firstRetry, 0
		}
		if failures++; failures == 2 { // the first is an old connection, or a restart
			a.log.Warn("the stream of bundles has ended; trying again", "error", err)
		}
		pause(ctx, wait/2+rand.N(wait))
		wait = min(2*wait, lastRetry)
	}
}

// watchOnce reads one stream to its end and tells whether anything good came.
func (a *authority) watchOnce(ctx context.Context) (received bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	patience := time.AfterFunc(watchPatience, cancel)
	defer patience.Stop()
	stream, err := a.client.WatchBundle(ctx, &authorityv1.WatchBundleRequest{}, grpc.WaitForReady(true))
	if err != nil {
		return false, err
	}
	for {
		response, err := stream.Recv()
		if err != nil {
			return received, err
		}
		patience.Stop()
		received = a.take(response.GetBundle()) || received
	}
}

// take takes over a bundle, or says in the log why not.
func (a *authority) take(bundle *authorityv1.Bundle) bool {
	err := a.bundle.take(bundle)
	if err != nil {
		a.log.Error("a bundle of the authority was refused", "sequence", bundle.GetSequence(), "error", err)
	}
	return err == nil
}
