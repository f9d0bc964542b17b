// Package health asks a server of the mesh how it is, over mutual TLS, as any other client would.
//
//	answer, err := health.Check(ctx, guard, "127.0.0.1:7445", ledgerID)
package health

import (
	"context"
	"crypto/x509"
	"fmt"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/peer"

	"example.com/rolecall/interceptors"
)

// Answer is what a server said of itself, and the certificate that it showed.
type Answer struct {
	Status      healthv1.HealthCheckResponse_ServingStatus
	Certificate *x509.Certificate
	Took        time.Duration
}

// Serving tells whether the server does its work.
func (a *Answer) Serving() bool { return a.Status == healthv1.HealthCheckResponse_SERVING }

// Check asks the server at a gRPC target or HOST:PORT, which must prove to be id, once. It opens a connection of its own, so
// that the certificate is the one that the server shows now.
func Check(ctx context.Context, guard *interceptors.Guard, target string, id spiffeid.ID) (*Answer, error) {
	conn, err := guard.NewClient(target, id)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	return check(ctx, conn)
}

// Wait returns once the server answers SERVING, or with the last answer's error when ctx ends.
func Wait(ctx context.Context, guard *interceptors.Guard, target string, id spiffeid.ID) error {
	// gRPC's own first pause, a second, is for servers far away.
	quick := grpc.ConnectParams{
		Backoff:           backoff.Config{BaseDelay: 20 * time.Millisecond, Multiplier: 1.5, MaxDelay: 500 * time.Millisecond},
		MinConnectTimeout: 2 * time.Second,
	}
	conn, err := guard.NewClient(target, id, grpc.WithConnectParams(quick))
	if err != nil {
		return err
	}
	defer conn.Close()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		once, cancel := context.WithTimeout(ctx, 2*time.Second)
		answer, err := check(once, conn)
		cancel()
		switch {
		case err != nil:
			err = fmt.Errorf("%s is not SERVING: %w", target, err)
		case answer.Serving():
			return nil
		default:
			err = fmt.Errorf("%s answers %s", target, answer.Status)
		}
		select {
		case <-ctx.Done():
			return err
		case <-tick.C:
		}
	}
}

func check(ctx context.Context, conn *grpc.ClientConn) (*Answer, error) {
	began := time.Now()
	var server peer.Peer
	response, err := healthv1.NewHealthClient(conn).Check(ctx, &healthv1.HealthCheckRequest{}, grpc.Peer(&server))
	if err != nil {
		return nil, err
	}
	answer := &Answer{Status: response.Status, Took: time.Since(began)}
	if info, ok := server.AuthInfo.(credentials.TLSInfo); ok && len(info.State.PeerCertificates) > 0 {
		answer.Certificate = info.State.PeerCertificates[0]
	}
	return answer, nil
}
