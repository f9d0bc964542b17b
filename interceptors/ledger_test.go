package interceptors_test

import (
	"context"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"

	authorityv1 "example.com/rolecall/gen/authority/v1"
	ledgerv1 "example.com/rolecall/gen/ledger/v1"
	"example.com/rolecall/interceptors"
)

// ledger is a service whose handlers can be told what to do and count how often they were reached.
type ledger struct {
	ledgerv1.UnimplementedLedgerServiceServer
	authorityv1.UnimplementedAuthorityServiceServer

	reached    atomic.Int64
	getBalance func(context.Context) error
	watch      func(grpc.ServerStreamingServer[ledgerv1.WatchEntriesResponse]) error
	importAll  func(grpc.ClientStreamingServer[ledgerv1.ImportEntriesRequest, ledgerv1.ImportEntriesResponse]) error
}

func (l *ledger) GetBalance(ctx context.Context, _ *ledgerv1.GetBalanceRequest) (*ledgerv1.GetBalanceResponse, error) {
	l.reached.Add(1)
	if l.getBalance != nil {
		return &ledgerv1.GetBalanceResponse{}, l.getBalance(ctx)
	}
	return &ledgerv1.GetBalanceResponse{}, nil
}

func (l *ledger) Transfer(context.Context, *ledgerv1.TransferRequest) (*ledgerv1.TransferResponse, error) {
	l.reached.Add(1)
	return &ledgerv1.TransferResponse{}, nil
}

func registerLedger(s grpc.ServiceRegistrar, l *ledger) { ledgerv1.RegisterLedgerServiceServer(s, l) }

// GetBundle is a method that any workload may call.
func (l *ledger) GetBundle(context.Context, *authorityv1.GetBundleRequest) (*authorityv1.GetBundleResponse, error) {
	l.reached.Add(1)
	return &authorityv1.GetBundleResponse{}, nil
}

func (l *ledger) WatchEntries(_ *ledgerv1.WatchEntriesRequest, stream grpc.ServerStreamingServer[ledgerv1.WatchEntriesResponse]) error {
	l.reached.Add(1)
	if l.watch != nil {
		return l.watch(stream)
	}
	if err := stream.Send(&ledgerv1.WatchEntriesResponse{}); err != nil {
		return err
	}
	<-stream.Context().Done()
	return stream.Context().Err()
}

func (l *ledger) ImportEntries(stream grpc.ClientStreamingServer[ledgerv1.ImportEntriesRequest, ledgerv1.ImportEntriesResponse]) error {
	l.reached.Add(1)
	if l.importAll != nil {
		return l.importAll(stream)
	}
	_, err := stream.Recv()
	return err
}

func balance(t *testing.T, conn grpc.ClientConnInterface) error {
	_, err := ledgerv1.NewLedgerServiceClient(conn).GetBalance(timeout(t), &ledgerv1.GetBalanceRequest{})
	return err
}

func transfer(t *testing.T, conn grpc.ClientConnInterface) error {
	_, err := ledgerv1.NewLedgerServiceClient(conn).Transfer(timeout(t), &ledgerv1.TransferRequest{})
	return err
}

// watch opens a stream and waits for its first message, after which the handler is idle.
func watch(t *testing.T, conn grpc.ClientConnInterface) grpc.ServerStreamingClient[ledgerv1.WatchEntriesResponse] {
	t.Helper()
	stream, err := ledgerv1.NewLedgerServiceClient(conn).WatchEntries(timeout(t), &ledgerv1.WatchEntriesRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatalf("first message: %v", err)
	}
	return stream
}

func transferNarrowed(t *testing.T, conn grpc.ClientConnInterface, subset [][]string) error {
	ctx := timeout(t)
	for _, roles := range subset {
		ctx = interceptors.Narrow(ctx, roles...)
	}
	_, err := ledgerv1.NewLedgerServiceClient(conn).Transfer(ctx, &ledgerv1.TransferRequest{})
	return err
}

func connected(t *testing.T, conn *grpc.ClientConn) *grpc.ClientConn {
	t.Helper()
	conn.Connect()
	for state := conn.GetState(); state != connectivity.Ready; state = conn.GetState() {
		if !conn.WaitForStateChange(timeout(t), state) {
			t.Fatalf("the connection is still %s", state)
		}
	}
	return conn
}

func watchOnce(t *testing.T, conn grpc.ClientConnInterface) (*ledgerv1.WatchEntriesResponse, error) {
	stream, err := ledgerv1.NewLedgerServiceClient(conn).WatchEntries(timeout(t), &ledgerv1.WatchEntriesRequest{})
	must(t, err)
	return stream.Recv()
}
