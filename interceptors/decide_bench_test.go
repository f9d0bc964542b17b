package interceptors_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	ledgerv1 "example.com/rolecall/gen/ledger/v1"
	"example.com/rolecall/interceptors"
	"example.com/rolecall/interceptors/usertoken"
	"example.com/rolecall/rolecalltest"
)

// sizes of roles.yaml, in pairs of a role and a member. The largest is what fits into the 4 MiB that are read.
var sizes = []int{10, 1_000, 100_000}

// BenchmarkDecide measures one decision: certificate not expired, root trusted, neither identity nor keys denied, role
// held. `make bench` runs it beside gRPC's own authorization engine.
func BenchmarkDecide(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprintf("bindings=%d", n), func(b *testing.B) {
			d := decisionAmong(b, n)
			b.ReportAllocs()
			for b.Loop() {
				if !d.Allowed() {
					b.Fatal("the decision went against a caller with the role")
				}
			}
		})
	}
}

// Not parallel: testing.AllocsPerRun counts what the whole process allocates.
func TestADecisionAllocatesNothingHoweverManyBindingsThereAre(t *testing.T) {
	for _, n := range sizes {
		d := decisionAmong(t, n)
		refusals := 0
		allocs := testing.AllocsPerRun(100_000, func() {
			if !d.Allowed() {
				refusals++
			}
		})
		if allocs != 0 || refusals != 0 {
			t.Errorf("%d bindings: %v allocations for each decision and %d refusals, want none", n, allocs, refusals)
		}
	}
}

// TestACallOnBehalfOfNobodyPaysNothingForUsers: not parallel, as above.
func TestACallOnBehalfOfNobodyPaysNothingForUsers(t *testing.T) {
	tokens := spiffeid.RequireFromString("spiffe://mesh.local/service/tokens")
	d := decisionAmong(t, 10, interceptors.With(usertoken.New(usertoken.Config{Target: "127.0.0.1:1", Server: tokens})))
	refusals := 0
	allocs := testing.AllocsPerRun(10_000, func() {
		if !d.UserAdmitted() {
			refusals++
		}
	})
	// What the verifier does beside it, trying to reach the tokens service, is not of the call.
	if allocs >= 1 || refusals != 0 {
		t.Errorf("%v allocations and %d refusals, want none", allocs, refusals)
	}
}

// decisionAmong makes a call through a guarded client and a guarded server on loopback and returns the decision on it.
// The caller holds the role that the method requires; other workloads make up the rest of n bindings.
func decisionAmong(tb testing.TB, n int, opts ...interceptors.Option) interceptors.Decision {
	tb.Helper()
	ca := rolecalltest.NewCA(tb, "mesh.local")
	guard := func(path string, bindings interceptors.Bindings, opts ...interceptors.Option) *interceptors.Guard {
		g, err := interceptors.New(ca.Source(path), bindings, append(opts, interceptors.Logger(slog.New(slog.DiscardHandler)),
			interceptors.With(&fakeProofs{}), interceptors.With(&fakeOnce{}))...)
		if err != nil {
			tb.Fatalf("New: %v", err)
		}
		tb.Cleanup(func() { _ = g.Close() })
		return g
	}

	decided := make(chan interceptors.Decision, 1)
	srv := guard(server, interceptors.BindingsYAML(manyBindings(n)), opts...).NewServer()
	ledgerv1.RegisterLedgerServiceServer(srv, &ledger{getBalance: func(ctx context.Context) error {
		d, err := interceptors.DecisionOn(ctx)
		decided <- d
		return err
	}})
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(lis) }()
	tb.Cleanup(func() {
		srv.Stop()
		if err := <-served; err != nil {
			tb.Errorf("Serve: %v", err)
		}
	})

	conn, err := guard(reader, nil).NewClient(lis.Addr().String(), ca.ID(server))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = conn.Close() })
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute) // the server reads its bindings meanwhile
	defer cancel()
	if _, err := ledgerv1.NewLedgerServiceClient(conn).GetBalance(ctx, &ledgerv1.GetBalanceRequest{}); err != nil {
		tb.Fatalf("the call to decide on: %v", err)
	}
	return <-decided
}

// manyBindings returns a roles.yaml in which the reader and n-1 other workloads hold ledger.reader.
func manyBindings(n int) []byte {
	var b bytes.Buffer
	b.WriteString("trustDomain: mesh.local\nbindings:\n  - role: ledger.reader\n    members:\n")
	for i := range n - 1 {
		fmt.Fprintf(&b, "      - spiffe://mesh.local/w/%d\n", i)
	}
	b.WriteString("      - spiffe://mesh.local" + reader + "\n")
	return b.Bytes()
}
