package main

import (
	"context"
	"database/sql"
	"log/slog"
	"net"
	"path/filepath"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	vouchersv1 "example.com/rolecall/examples/vouchers/gen/vouchers/v1"
	"example.com/rolecall/interceptors"
	"example.com/rolecall/rolecalltest"
)

// mesh is vouchers with a key server and a ledger.
type mesh struct {
	vouchersv1.VouchersServiceClient // as alice, who issues and reads
	ca                               *rolecalltest.CA
	keys                             *rolecalltest.Keys
	ledger                           *books
	address                          string
}

// start serves vouchers.
func start(t *testing.T) *mesh {
	t.Helper()
	ca := rolecalltest.NewCA(t, "mesh.local")
	keys := rolecalltest.NewKeys(ca)
	ledger, address := startLedger(t, ca, keys)
	lis := listen(t)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- serve(ctx, lis, ca.Source("/service/vouchers"), interceptors.BindingsFile("roles.yaml"), config{
			trustDomain: "mesh.local", ledger: address, keys: keys.Target(), account: "cash", db: filepath.Join(t.TempDir(), "vouchers.db"),
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("vouchers: %v", err)
		}
	})
	m := &mesh{ca: ca, keys: keys, ledger: ledger, address: lis.Addr().String()}
	m.VouchersServiceClient = vouchersv1.NewVouchersServiceClient(m.connect(t, newGuard(t, ca, "/operator/alice", nil)))
	return m
}

// till returns a client whose guard signs.
func (m *mesh) till(t *testing.T) vouchersv1.VouchersServiceClient {
	t.Helper()
	guard := newGuard(t, m.ca, "/till/1", nil, interceptors.With(m.keys.Feature()))
	return vouchersv1.NewVouchersServiceClient(m.connect(t, guard))
}

func (m *mesh) connect(t *testing.T, guard *interceptors.Guard) *grpc.ClientConn {
	t.Helper()
	conn, err := guard.NewClient(m.address, m.ca.ID("/service/vouchers"), grpc.WithDefaultCallOptions(grpc.WaitForReady(true)))
	if err != nil {
		t.Fatalf("connect: %v", err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// issue makes a voucher of 10 euro and returns its ID.
func (m *mesh) issue(t *testing.T) string {
	t.Helper()
	answer, err := m.Issue(t.Context(), &vouchersv1.IssueRequest{Cents: 1000})
	if err != nil {
		t.Fatalf("issue a voucher: %v", err)
	}
	return answer.GetVoucher().GetVoucherId()
}

// wantCents checks what is left of a voucher.
func (m *mesh) wantCents(t *testing.T, voucher string, want int64) {
	t.Helper()
	answer, err := m.GetVoucher(t.Context(), &vouchersv1.GetVoucherRequest{VoucherId: voucher})
	if got := answer.GetVoucher().GetCents(); err != nil || got != want {
		t.Errorf("%d cents are left of the voucher (%v), want %d", got, err, want)
	}
}

func newGuard(t *testing.T, ca *rolecalltest.CA, path string, roles interceptors.Bindings, opts ...interceptors.Option) *interceptors.Guard {
	t.Helper()
	guard, err := interceptors.New(ca.Source(path), roles, append(opts, interceptors.Audit(slog.DiscardHandler))...)
	if err != nil {
		t.Fatalf("guard of %s: %v", path, err)
	}
	t.Cleanup(func() {
		if err := guard.Close(); err != nil {
			t.Errorf("close the guard of %s: %v", path, err)
		}
	})
	return guard
}

// open opens a database for exactly once.
func open(t *testing.T) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", filepath.Join(t.TempDir(), "test.db")+"?_txlock=immediate")
	if err != nil {
		t.Fatalf("open a database: %v", err)
	}
	db.SetMaxOpenConns(1)
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("listen: %v", err)
	}
	return lis
}

// reason returns the reason of a refusal, "" where there is none.
func reason(err error) string {
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			return info.GetReason()
		}
	}
	return ""
}
