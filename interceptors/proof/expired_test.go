package proof_test

import (
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"

	"example.com/rolecall/interceptors"
	"example.com/rolecall/interceptors/proof"
)

// late is a mesh whose bank takes no proof yet, and a client of it. From the nth attempt on it does, however long the attempts
// before take: its clock stands.
func late(t *testing.T, n int64) (*grpc.ClientConn, counting) {
	start := time.Now()
	var ahead atomic.Int64
	now := func() time.Time { return start.Add(time.Duration(ahead.Load())) }
	m := newMesh(t, func(c *meshConfig) { c.cold, c.now = true, now })
	attempts := counting{attempts: &atomic.Int64{}, begin: func(attempt int64) {
		if attempt == n {
			ahead.Store(int64(time.Minute))
		}
	}}
	guard := m.newGuard(m.ca.Source(payer), nil, quiet(), interceptors.With(&clocked{proof.NewPatient(proof.Config{}), now}))
	conn, err := guard.NewClient(m.addr, m.ca.ID(bankPath), grpc.WithStatsHandler(attempts))
	must(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return conn, attempts
}

func TestAClientOutlastsAServersFirstSeconds(t *testing.T) {
	t.Parallel()
	conn, attempts := late(t, 7)
	if err := conn.Invoke(timeout(t), pay, payment(t, "dave", 1), paid(t)); err != nil || attempts.attempts.Load() != 7 {
		t.Errorf("got %v after %d attempts, want the 7th to succeed", err, attempts.attempts.Load())
	}
	m := newMesh(t, func(c *meshConfig) { c.noKeys = true })
	for leeway, want := range map[time.Duration]time.Duration{0: 11 * time.Second, proof.NoLeeway: time.Second, 30 * time.Second: 61 * time.Second} {
		f := proof.New(proof.Config{Leeway: leeway})
		m.newGuard(m.ca.Source(payer), nil, quiet(), interceptors.With(f))
		if got := proof.Patience(f); got != want {
			t.Errorf("with a leeway of %s a client goes on for %s, want %s", leeway, got, want)
		}
	}
}

func TestAStreamIsSignedAnewAfterProofExpired(t *testing.T) {
	t.Parallel()
	conn, attempts := late(t, 7)
	stream, err := conn.NewStream(timeout(t), &grpc.StreamDesc{ServerStreams: true}, watch)
	must(t, err)
	must(t, stream.SendMsg(payment(t, "dave", 1)))
	must(t, stream.CloseSend())
	for range 3 {
		if err := stream.RecvMsg(paid(t)); err != nil {
			t.Fatalf("got %v after %d attempts", err, attempts.attempts.Load())
		}
	}
	if n := attempts.attempts.Load(); n != 7 {
		t.Errorf("%d attempts, want 7", n)
	}
}
