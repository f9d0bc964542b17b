package interceptors_test

import (
	"errors"
	"io"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	ledgerv1 "example.com/rolecall/gen/ledger/v1"
)

// TestAStreamsCompressorCannotBeSet has a handler change what a refusal reads at the same moment.
func TestAStreamsCompressorCannotBeSet(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	set := make(chan error, 1)
	m.ledger.watch = func(stream grpc.ServerStreamingServer[ledgerv1.WatchEntriesResponse]) error {
		set <- grpc.SetSendCompressor(stream.Context(), "identity")
		return errors.Join(
			grpc.SetHeader(stream.Context(), metadata.Pairs("first", "1")),
			grpc.SetTrailer(stream.Context(), metadata.Pairs("last", "2")),
			stream.Send(&ledgerv1.WatchEntriesResponse{}))
	}
	stream, err := ledgerv1.NewLedgerServiceClient(m.dial(reader)).WatchEntries(timeout(t), &ledgerv1.WatchEntriesRequest{})
	must(t, err)
	if err := <-set; err == nil {
		t.Error("SetSendCompressor wrote to the stream without a lock")
	}
	_, err = stream.Recv()
	must(t, err)
	if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
		t.Fatalf("the stream ended with %v", err)
	}
	header, err := stream.Header()
	must(t, err)
	if first, last := header.Get("first"), stream.Trailer().Get("last"); len(first) != 1 || len(last) != 1 {
		t.Errorf("SetHeader and SetTrailer were lost: %v, %v", first, last)
	}
}

// TestAHandlerMayUseItsStreamWhileItIsRefused is for the race detector: the refusal ends the stream under a handler that
// goes on writing headers, messages and trailers.
func TestAHandlerMayUseItsStreamWhileItIsRefused(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	const streams = 4
	ended := make(chan error, streams)
	m.ledger.watch = func(stream grpc.ServerStreamingServer[ledgerv1.WatchEntriesResponse]) error {
		var err error
		for err == nil {
			_ = grpc.SetHeader(stream.Context(), metadata.Pairs("first", "1"))
			_ = grpc.SetSendCompressor(stream.Context(), "identity")
			stream.SetTrailer(metadata.Pairs("last", "2"))
			err = stream.Send(&ledgerv1.WatchEntriesResponse{})
		}
		ended <- err
		return err
	}
	client := ledgerv1.NewLedgerServiceClient(m.dial(reader))
	var open []grpc.ServerStreamingClient[ledgerv1.WatchEntriesResponse]
	for range streams {
		stream, err := client.WatchEntries(timeout(t), &ledgerv1.WatchEntriesRequest{})
		must(t, err)
		_, err = stream.Recv()
		must(t, err)
		open = append(open, stream)
	}
	must(t, m.guard.Apply(noRoles))
	for _, stream := range open {
		var err error
		for err == nil {
			_, err = stream.Recv()
		}
		refused(t, err, codes.PermissionDenied, "ROLE_REQUIRED")
		refused(t, <-ended, codes.PermissionDenied, "ROLE_REQUIRED")
	}
}
