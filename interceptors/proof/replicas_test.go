package proof_test

import (
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"

	"example.com/rolecall/interceptors"
	"example.com/rolecall/interceptors/proof"
)

// TestARotationBetweenTheConnectionsToTwoReplicas has one connection show the certificate of before, and the other that of
// after. Calls go to both in turn, and there is no key server.
func TestARotationBetweenTheConnectionsToTwoReplicas(t *testing.T) {
	t.Parallel()
	m := newMesh(t, func(c *meshConfig) { c.noKeys = true })
	m.clock.forward(-time.Minute)
	guard := m.newGuard(m.ca.Source(bankPath), interceptors.BindingsFile(m.bindings), quiet(), interceptors.Audit(slog.DiscardHandler),
		interceptors.With(&clocked{proof.NewFast(proof.Config{}), m.clock.now}))
	m.clock.forward(time.Minute)
	server := guard.NewServer()
	replica := &bank{t: t}
	replica.register(server)
	addr, _ := serve(t, server, listen(t))

	w := m.workload(payer)
	r := manual.NewBuilderWithScheme("replicas")
	r.InitialState(resolver.State{Addresses: []resolver.Address{{Addr: m.addr}}})
	attempts, calls := counting{attempts: &atomic.Int64{}}, int64(0)
	conn, err := w.guard.NewClient("replicas:///bank", m.ca.ID(bankPath), grpc.WithResolvers(r), grpc.WithStatsHandler(attempts), grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"round_robin":{}}]}`))
	must(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	call := func() {
		t.Helper()
		calls += 2
		if err := conn.Invoke(timeout(t), pay, payment(t, "dave", 1), paid(t)); err != nil {
			t.Fatalf("call: %v", err)
		}
		stream, err := conn.NewStream(timeout(t), &grpc.StreamDesc{ServerStreams: true}, watch)
		must(t, err)
		must(t, stream.SendMsg(payment(t, "dave", 1)))
		must(t, stream.CloseSend())
		if err := stream.RecvMsg(paid(t)); err != nil {
			t.Fatalf("stream: %v", err)
		}
	}
	call()
	w.source.Renew()
	r.UpdateState(resolver.State{Addresses: []resolver.Address{{Addr: m.addr}, {Addr: addr}}})
	eventually(t, "call of the second replica", func() bool { call(); return replica.reached.Load() > 0 })
	first := m.bank.reached.Load()
	for range 10 {
		call()
	}
	if n := m.bank.reached.Load() - first; n == 0 || n == 20 {
		t.Errorf("%d of 20 calls went to the first replica, want some to each", n)
	}
	if n := attempts.attempts.Load(); n != calls {
		t.Errorf("%d attempts of %d calls: each is to be signed at once with what its connection has shown", n, calls)
	}
}
