package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/grpc"

	ledgerv1 "example.com/rolecall/gen/ledger/v1"
)

// measureStreams compares server streams: what it costs to open one, which the guard gives a goroutine of its own, and
// what each message costs, before which the guard decides again. One caller, one connection.
func measureStreams(length time.Duration) ([]row, error) {
	var rows []row
	for _, at := range []struct {
		name string
		run  func(*grpc.ClientConn, time.Time) (int, error)
		turn time.Duration
	}{
		{"streams of one message", openStreams, turn},
		// Long enough for the flow-control window to grow, and for what the last stream left to be small beside it.
		{"messages of one stream", receiveMessages, 250 * time.Millisecond},
	} {
		c, err := compareOver(at.run, at.turn, length/2,
			func(w *workloads) (*place, error) { return w.bare(&ledger{}) },
			func(w *workloads) (*place, error) { return w.guarded(10, &ledger{}) })
		if err != nil {
			return nil, fmt.Errorf("%s: %w", at.name, err)
		}
		rows = append(rows,
			ratioRow("throughput, "+at.name, c, rate, perSecond, target{}),
			ratioRow("CPU, "+at.name, c, cpu, duration, target{}),
			differenceRow("allocations, "+at.name, c, allocs, count, target{}))
	}
	return rows, nil
}

// single is the account that has one entry; every other has entries without end.
const single = "single"

func (*ledger) WatchEntries(req *ledgerv1.WatchEntriesRequest, stream grpc.ServerStreamingServer[ledgerv1.WatchEntriesResponse]) error {
	message := &ledgerv1.WatchEntriesResponse{Entry: &ledgerv1.Entry{EntryId: "1", AccountId: req.GetAccountId()}}
	for {
		if err := stream.Send(message); err != nil || req.GetAccountId() == single {
			return err
		}
	}
}

func openStreams(conn *grpc.ClientConn, until time.Time) (int, error) {
	n := 0
	for ; n == 0 || time.Now().Before(until); n++ {
		if err := openStream(conn); err != nil {
			return n, err
		}
	}
	return n, nil
}

func openStream(conn *grpc.ClientConn) error {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	stream, err := ledgerv1.NewLedgerServiceClient(conn).WatchEntries(ctx, &ledgerv1.WatchEntriesRequest{AccountId: single})
	if err != nil {
		return err
	}
	if _, err := stream.Recv(); err != nil {
		return err
	}
	if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("a stream of one message ended with %w", err)
	}
	return nil
}

func receiveMessages(conn *grpc.ClientConn, until time.Time) (int, error) {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	stream, err := ledgerv1.NewLedgerServiceClient(conn).WatchEntries(ctx, &ledgerv1.WatchEntriesRequest{})
	if err != nil {
		return 0, err
	}
	n := 0
	for ; n == 0 || n%100 != 0 || time.Now().Before(until); n++ {
		if _, err := stream.Recv(); err != nil {
			return n, err
		}
	}
	return n, nil
}
