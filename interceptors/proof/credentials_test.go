package proof_test

import (
	"context"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
)

// given are credentials that a caller adds to a call.
type given map[string]string

func (g given) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return g, nil
}

func (given) RequireTransportSecurity() bool { return true }

func TestWhatTheCallersOwnCredentialsAddIsCovered(t *testing.T) {
	t.Parallel()
	m := newMesh(t, func(c *meshConfig) { c.noKeys, c.config.Metadata = true, []string{"x-tenant", "x-bytes-bin"} })
	w := m.workload(payer)
	for name, adds := range map[string]given{
		"a token":                     {"authorization": "Bearer a.b.c"},
		"metadata that handlers read": {"X-Tenant": "a"},
		"bytes":                       {"x-bytes-bin": "\x00\xff,"},
		"a narrowing":                 {"rolecall-role-subset": "bank.payer"},
		"a proof of another call":     {"Rolecall-Proof": "old"},
		"what gRPC sets":              {"user-agent": "a"},
		"nothing":                     {},
	} {
		ctx := metadata.AppendToOutgoingContext(timeout(t), "x-tenant", "b", "x-tenant", "c")
		if _, err := w.pay(ctx, pay, grpc.PerRPCCredentials(adds)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		stream, err := w.conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, watch, grpc.PerRPCCredentials(adds))
		must(t, err)
		must(t, stream.SendMsg(payment(t, "dave", 1)))
		if err := stream.RecvMsg(paid(t)); err != nil {
			t.Errorf("%s, on a stream: %v", name, err)
		}
	}
	// What the credentials of a whole client add is not known when a call is signed.
	conn := w.client(grpc.WithPerRPCCredentials(given{"authorization": "Bearer a.b.c"}))
	refused(t, conn.Invoke(timeout(t), pay, payment(t, "dave", 1), paid(t)), codes.Unauthenticated, "PROOF_INVALID")
}
