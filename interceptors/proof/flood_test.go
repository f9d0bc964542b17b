package proof_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	rolecallv1 "example.com/rolecall/gen/rolecall/v1"
	"example.com/rolecall/interceptors/proof"
)

// flood has a customer of a relay hand it forged proofs, several at a time, until the test ends or stop is called.
func flood(t *testing.T, via *workload, forge func(eve *attacker) string) (sent *atomic.Int64, reasons *sync.Map, stop func()) {
	t.Helper()
	eve := via.attacker(nobody)
	sent, reasons = &atomic.Int64{}, &sync.Map{}
	ctx, cancel := context.WithCancel(t.Context())
	var sending sync.WaitGroup
	for range 16 {
		sending.Go(func() {
			for ctx.Err() == nil {
				_, err := proof.Forward(ctx, via.conn, &rolecallv1.SignedRequest{Method: pay, Request: dave, Proof: forge(eve)})
				if ctx.Err() == nil {
					reasons.Store(infoOf(err).GetReason(), true)
					sent.Add(1)
				}
			}
		})
	}
	stop = sync.OnceFunc(func() { cancel(); sending.Wait() })
	t.Cleanup(stop)
	return sent, reasons, stop
}

func inventedKid() change { return header("kid", newNonce()+newNonce()[:21]) }

// TestForgedProofsThroughARelayShutNobodyElseOut has one customer of a relay forge proofs without end while another one, whom the
// server has never heard of, has it pass on a good one.
func TestForgedProofsThroughARelayShutNobodyElseOut(t *testing.T) {
	t.Parallel()
	var n atomic.Int64
	for name, forge := range map[string]func(eve *attacker) string{
		"with invented keys of their own": func(eve *attacker) string { return eve.prove(pay, dave, inventedKid()) },
		"with invented signers": func(eve *attacker) string {
			return eve.prove(pay, dave, claim("iss", fmt.Sprintf("spiffe://mesh.local/invented/%d", n.Add(1))))
		},
		"with invented keys of workloads that are known": func(eve *attacker) string {
			return eve.prove(pay, dave, inventedKid(), claim("iss", eve.ca.ID(second).String()))
		},
		"with invented keys of the very victim": func(eve *attacker) string {
			return eve.prove(pay, dave, inventedKid(), claim("iss", eve.ca.ID(payer).String()))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMesh(t)
			via, known, signer := m.workload(relay), m.workload(second).announced(), m.workload(payer).announced()
			if _, err := proof.Forward(timeout(t), via.conn, known.signed(pay, 1)); err != nil {
				t.Fatal(err)
			}
			sent, reasons, stop := flood(t, via, forge)
			eventually(t, "flood", func() bool { return sent.Load() > 20 })
			start, asked := time.Now(), m.keys.asked.Load()
			// One who is new here, one who is known, and one with a new key.
			if _, err := proof.Forward(timeout(t), via.conn, signer.signed(pay, 1)); err != nil {
				t.Errorf("a signer that is new: %v", err)
			}
			if _, err := proof.Forward(timeout(t), via.conn, known.signed(pay, 1)); err != nil {
				t.Errorf("a signer that is known: %v", err)
			}
			for range 3 {
				old := known.feature.Acknowledged()
				known.source.Renew()
				eventually(t, "acknowledgement", func() bool { return known.feature.Acknowledged() != old })
				if _, err := proof.Forward(timeout(t), via.conn, known.signed(pay, 1)); err != nil {
					t.Errorf("a signer that is known, with a new key: %v", err)
				}
			}
			// Two places, of 10 ms each, for strangers; every 20 ms a question about one signer; and the few above.
			n := m.keys.asked.Load() - asked // before the time is read, which may go on meanwhile
			if most := 2*int64(time.Since(start)/(10*time.Millisecond)) + 20; n > most {
				t.Errorf("the key server was asked %d times, want %d at most", n, most)
			}
			stop()
			reasons.Range(func(reason, _ any) bool {
				if reason != "PROOF_SIGNER_UNKNOWN" {
					t.Errorf("a forged one was answered %v", reason)
				}
				return true
			})
			if n, want := m.bank.total.Load(), int64(6); n != want {
				t.Errorf("%d was paid, want %d", n, want)
			}
		})
	}
}

// TestACallThatEndsGivesItsPlaceBack has as many calls wait as may, for the question that is held and for the one after it, and leave
// again.
func TestACallThatEndsGivesItsPlaceBack(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	a := m.attacker(relay)
	signer := m.workload(payer).announced()
	release := m.keys.holding()
	defer release()
	for round := range 3 {
		leaving, leave := context.WithCancel(timeout(t))
		var waiting sync.WaitGroup
		var full atomic.Bool
		for range 2*proof.MaxWaiting + 20 {
			waiting.Go(func() {
				text := a.prove(pay, dave, inventedKid(), claim("iss", m.ca.ID(payer).String()))
				if _, err := send(leaving, a.conn, pay, dave, "rolecall-proof", text); infoOf(err).GetReason() == "VERIFIER_UNAVAILABLE" {
					full.Store(true)
				}
			})
		}
		eventually(t, fmt.Sprintf("refusal in round %d", round), full.Load)
		leave()
		waiting.Wait()
		eventually(t, "end of the calls", func() bool { return m.feature.Waiting() == 0 })
	}
	release()
	if _, err := send(timeout(t), a.conn, pay, dave, "rolecall-proof", signer.signed(pay, 1).GetProof()); err != nil && codeOf(err) != codes.Unauthenticated {
		t.Errorf("after all have left: %v", err)
	}
	if _, err := proof.Forward(timeout(t), m.workload(relay).conn, signer.signed(pay, 1)); err != nil {
		t.Errorf("after all have left: %v", err)
	}
	eventually(t, "end of the turns", func() bool { return m.feature.Turns() == 0 })
}
