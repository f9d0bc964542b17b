package ledger

import (
	"errors"
	"fmt"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	ledgerv1 "example.com/rolecall/gen/ledger/v1"
)

// maxImport is how many transfers one import has at most. All of them are held in memory, about 1 KiB each, until the last
// has come, and their accounts are locked while they are written.
const maxImport = 10_000

// ImportEntries makes the transfers that the stream brings, in this order, when the stream has ended: all of them, or, if
// one is refused, none. The error says which.
func (s *Service) ImportEntries(stream grpc.ClientStreamingServer[ledgerv1.ImportEntriesRequest, ledgerv1.ImportEntriesResponse]) error {
	var moves []movement
	for {
		req, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if len(moves) == maxImport {
			return status.Errorf(codes.ResourceExhausted, "an import has at most %d transfers: send them in several; none was made", maxImport)
		}
		m, err := newMovement(fmt.Sprintf("transfers[%d].", len(moves)), req)
		if err != nil {
			return err
		}
		moves = append(moves, m)
	}
	if len(moves) > 0 {
		if _, err := s.post(stream.Context(), moves); err != nil {
			return s.status(stream.Context(), "import entries", err)
		}
	}
	return stream.SendAndClose(&ledgerv1.ImportEntriesResponse{Imported: int64(len(moves))})
}
