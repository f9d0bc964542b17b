package proof_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"runtime"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"example.com/rolecall/interceptors/internal/feature"
	"example.com/rolecall/interceptors/proof"
)

// BenchmarkProof measures the work for one proof beside one bare ES256 signature and its verification. `make bench` prints
// them as ratios.
func BenchmarkProof(b *testing.B) {
	m := newMesh(b)
	a := m.attacker(payer)
	key, sum := a.key(), sha256.Sum256(dave)
	b.Run("what=bare-sign", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := ecdsa.SignASN1(rand.Reader, key, sum[:]); err != nil {
				b.Fatal(err)
			}
		}
	})
	signature, err := ecdsa.SignASN1(rand.Reader, key, sum[:])
	must(b, err)
	b.Run("what=bare-verify", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if !ecdsa.VerifyASN1(&key.PublicKey, sum[:], signature) {
				b.Fatal("the signature does not hold")
			}
		}
	})
	signer, request := proof.NewSigner(a.source), payment(b, "dave", 1)
	b.Run("what=sign", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := signer.Sign(m.ca.ID(bankPath), request, pay); err != nil {
				b.Fatal(err)
			}
		}
	})
	proofs := m.feature.Running()
	call := &feature.SignedCall{Method: pay, Text: a.prove(pay, dave, in("exp", 60)), Body: dave, Metadata: metadata.MD{}, Peer: m.ca.ID(payer), PeerKey: &key.PublicKey}
	b.Run("what=verify", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, verdict, detail := proofs.Verify(b.Context(), call); verdict != feature.Good {
				b.Fatal(detail)
			}
		}
	})
	good, verdict, detail := proofs.Verify(b.Context(), call)
	if verdict != feature.Good {
		b.Fatal(detail)
	}
	b.Run("what=receipt", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := proofs.Receipt(good, dave); err != nil {
				b.Fatal(err)
			}
		}
	})
	relayed := *call
	relayed.Peer = m.ca.ID(relay)
	m.keys.lying(func(string, string) [][]byte {
		svid, _ := a.source.GetX509SVID()
		return raws(svid.Certificates...)
	})
	b.Run("what=verify-relayed", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, verdict, detail := proofs.Verify(b.Context(), &relayed); verdict != feature.Good {
				b.Fatal(detail)
			}
		}
	})
}

// BenchmarkNonce measures what a nonce costs a window in memory, in time and in bytes: those of 50,000 nonces of one signer,
// which expire over half a minute. Beside it a Go map of strings, which forgets nothing.
func BenchmarkNonce(b *testing.B) {
	const many = 50_000
	nonces := make([]proof.Nonce, many)
	for i := range nonces {
		nonces[i] = issued("spiffe://mesh.local/service/payer", i, 30*i/many)
	}
	for _, kind := range []struct {
		name string
		fill func() any
	}{
		{"map", func() any {
			seen := map[string]struct{}{}
			for _, n := range nonces {
				seen[n.Signer+" "+n.Value] = struct{}{}
			}
			return seen
		}},
		{"window", func() any {
			w := proof.MemoryWindow(proof.DefaultPerSigner, 1_000_000)
			for _, n := range nonces {
				if err := w.Burn(context.Background(), n); err != nil {
					b.Fatal(err)
				}
			}
			return w
		}},
	} {
		b.Run("what="+kind.name, func(b *testing.B) {
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			filled := kind.fill()
			runtime.GC()
			runtime.ReadMemStats(&after)
			runtime.KeepAlive(filled)
			n := 0
			for b.Loop() {
				kind.fill()
				n += many
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/nonce")
			b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/many, "B/nonce")
			b.ReportMetric(0, "ns/op") // it would be that of 50,000
		})
	}
}

// BenchmarkNonceInParallel has many signers at once.
func BenchmarkNonceInParallel(b *testing.B) {
	w := proof.MemoryWindow(1_000_000, 100_000_000)
	next := make(chan int, 1000)
	for i := range cap(next) {
		next <- i
	}
	b.RunParallel(func(p *testing.PB) {
		signer := fmt.Sprint("signer", <-next)
		for i := 0; p.Next(); i++ {
			if err := w.Burn(context.Background(), issued(signer, i, i/10_000)); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

// Not parallel: testing.AllocsPerRun counts what the whole process allocates.
func TestMethodsWithoutProofPayNothing(t *testing.T) {
	m := newMesh(t, func(c *meshConfig) { c.noKeys = true })       // nobody announces keys meanwhile
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute) // of 600 calls
	defer cancel()
	conn := m.workload(payer).conn
	bare := m.bare(m.ca.Source(payer))
	request, answer := payment(t, "dave", 1), paid(t)
	count := func(call func() error) float64 {
		return testing.AllocsPerRun(50, func() {
			if err := call(); err != nil {
				t.Fatal(err)
			}
		})
	}
	look := func(with interface {
		Invoke(context.Context, string, any, any, ...grpc.CallOption) error
	}) func() error {
		return func() error { return with.Invoke(ctx, look, request, answer) }
	}
	must(t, look(conn)())
	must(t, look(bare)())
	// What else allocates in the process meanwhile comes on top: the least of several counts has the least of it.
	without, with := count(look(bare)), count(look(conn))
	for range 4 {
		without, with = min(without, count(look(bare))), min(with, count(look(conn)))
	}
	// The interceptor itself is one more call in the chain.
	if with > without+5 {
		t.Errorf("a call of a method without proof makes %v allocations with the feature and %v without", with, without)
	}
	signed := count(func() error { return conn.Invoke(ctx, pay, request, answer) })
	t.Logf("allocations of a call: %v without the feature, %v with it, %v signed", without, with, signed)
}
