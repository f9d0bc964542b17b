package agentd

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"google.golang.org/grpc"

	authorityv1 "example.com/rolecall/gen/authority/v1"
	"example.com/rolecall/pki"
)

// Times of asking for the bundle.
const (
	bundleTimeout = 10 * time.Second
	bundleRetry   = 5 * time.Second
	shortestHint  = time.Second
	longestHint   = time.Hour
)

// authority signs over gRPC: the agent.Signer. Safe for concurrent use.
type authority struct {
	client authorityv1.AuthorityServiceClient
	own    *credential
	log    *slog.Logger
}

func newAuthority(conn *grpc.ClientConn, own *credential, log *slog.Logger) *authority {
	return &authority{client: authorityv1.NewAuthorityServiceClient(conn), own: own, log: log}
}

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
	return chain, a.trust(response.GetRoots())
}

// followBundle asks for the bundle as often as the authority wishes, until ctx ends.
func (a *authority) followBundle(ctx context.Context) {
	failing := false
	for ctx.Err() == nil {
		wait, err := a.getBundle(ctx)
		if err != nil && ctx.Err() == nil {
			wait = bundleRetry
			if !failing {
				a.log.Warn("bundle could not be read; trying again", "error", err)
			}
		}
		failing = err != nil
		pki.WaitUntil(ctx, time.Now().Add(wait))
	}
}

func (a *authority) getBundle(ctx context.Context) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, bundleTimeout)
	defer cancel()
	response, err := a.client.GetBundle(ctx, &authorityv1.GetBundleRequest{}, grpc.WaitForReady(true))
	if err != nil {
		return 0, err
	}
	if err := a.trust(response.GetRoots()); err != nil {
		return 0, err
	}
	hint := time.Duration(min(max(response.GetRefreshHintSeconds(), 0), int64(longestHint/time.Second))) * time.Second
	return max(hint, shortestHint), nil
}

// trust takes over the roots that the authority named, if they are roots of the agent's trust domain.
func (a *authority) trust(der [][]byte) error {
	roots, err := parse(der)
	if err != nil {
		return fmt.Errorf("roots of the authority: %w", err)
	}
	bundle, err := pki.NewBundle(roots)
	if err != nil {
		return fmt.Errorf("roots of the authority: %w", err)
	}
	return a.own.setBundle(bundle)
}

func parse(der [][]byte) ([]*x509.Certificate, error) {
	if len(der) == 0 {
		return nil, errors.New("none were sent")
	}
	certs := make([]*x509.Certificate, len(der))
	for i, raw := range der {
		var err error
		if certs[i], err = x509.ParseCertificate(raw); err != nil {
			return nil, err
		}
	}
	return certs, nil
}
