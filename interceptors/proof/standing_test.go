package proof_test

import (
	"context"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/dynamicpb"

	"example.com/rolecall/interceptors/internal/wire"
)

func TestAStreamEndsWithTheCertificateOfWhoSignedItsRequest(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	signer := m.workload(payer).announced()
	reached, proceed := make(chan struct{}), make(chan struct{})
	m.bank.handling(func(context.Context, *dynamicpb.Message) error {
		close(reached)
		<-proceed
		return nil
	})
	request := signer.signed(watch, 1)
	stream, err := m.bare(m.ca.Source(relay)).NewStream(metadata.AppendToOutgoingContext(timeout(t), "rolecall-proof", request.GetProof()),
		&grpc.StreamDesc{ServerStreams: true}, watch, grpc.ForceCodecV2(wire.Codec()))
	must(t, err)
	must(t, stream.SendMsg(&wire.Raw{Bytes: request.GetRequest()}))
	must(t, stream.CloseSend())
	select {
	case <-reached:
	case <-stream.Context().Done():
		t.Fatal(stream.RecvMsg(&wire.Captured{}))
	}
	defer close(proceed)
	// The feature's clock alone: for the guard the relay's certificate is as good as before.
	m.clock.forward(30 * 24 * time.Hour)
	refused(t, stream.RecvMsg(&wire.Captured{}), codes.Unauthenticated, "PROOF_SIGNER_UNKNOWN")
	m.audit.find(t, map[string]any{"event": "stream", "reason": "PROOF_SIGNER_UNKNOWN", "signer": m.ca.ID(payer).String(), "workload": m.ca.ID(relay).String()})
}
