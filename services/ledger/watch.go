package ledger

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	ledgerv1 "example.com/rolecall/gen/ledger/v1"
	"example.com/rolecall/internal/field"
)

// watchBatch is how many entries a stream reads at once: the most it holds in memory.
const watchBatch = 200

// WatchEntries sends the entries of an account after after_entry_id, and then every new one as it is made. It sends the
// headers at once, so that a caller knows that the watch is on. It ends with UNAVAILABLE when the server stops; the caller
// resumes after the last entry it has got.
func (s *Service) WatchEntries(req *ledgerv1.WatchEntriesRequest, stream grpc.ServerStreamingServer[ledgerv1.WatchEntriesResponse]) error {
	ctx := stream.Context()
	if err := field.ID("account_id", req.GetAccountId()); err != nil {
		return err
	}
	a, err := s.books.account(ctx, req.GetAccountId())
	if err != nil {
		return s.status(ctx, "watch entries", err)
	}
	after, err := parseAfter(a, req.GetAfterEntryId())
	if err != nil {
		return err
	}
	if err := stream.SendHeader(metadata.MD{}); err != nil {
		return err
	}
	topic := s.watchers.join(a.id)
	defer s.watchers.leave(a.id)
	for {
		changed := topic.next() // taken before reading: what comes after the read closes it
		if after, err = s.sendEntries(ctx, stream, a, after); err != nil {
			return err
		}
		select {
		case <-changed:
		case <-s.stopping:
			return status.Error(codes.Unavailable, "the server is stopping: watch again, after the last entry")
		case <-ctx.Done():
			return status.FromContextError(ctx.Err()).Err()
		}
	}
}

// sendEntries sends all entries after the given one that there are, and returns the number of the last.
func (s *Service) sendEntries(ctx context.Context, stream grpc.ServerStreamingServer[ledgerv1.WatchEntriesResponse], a account, after int64) (int64, error) {
	for {
		found, err := s.books.entries(ctx, a, after, watchBatch)
		if err != nil {
			return after, s.status(ctx, "watch entries", err)
		}
		for _, e := range found {
			if err := stream.Send(&ledgerv1.WatchEntriesResponse{Entry: e.message()}); err != nil {
				return after, err
			}
			after = e.number
		}
		if len(found) < watchBatch {
			return after, nil
		}
		select {
		case <-s.stopping: // a long history is not worth holding up the stop
			return after, status.Error(codes.Unavailable, "the server is stopping: watch again, after the last entry")
		default:
		}
	}
}
