package proof_test

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"

	"example.com/rolecall/interceptors"
	"example.com/rolecall/interceptors/proof"
)

// TestSignersKeyRotated has a proof made just before a rotation verified after it, over a connection that shows the new
// certificate.
func TestSignersKeyRotated(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	w, via := m.workload(payer).announced(), m.workload(relay)
	old := w.feature.Acknowledged()
	a := &attacker{m, w.source, nil}
	direct, relayed := a.prove(pay, dave), w.signed(pay, 1)
	w.source.Renew()
	eventually(t, "announcement of the new key", func() bool { return w.feature.Acknowledged() != old })
	if _, err := send(timeout(t), m.bare(w.source), pay, dave, "rolecall-proof", direct); err != nil {
		t.Errorf("a direct proof of before: %v", err)
	}
	if _, err := proof.Forward(timeout(t), via.conn, relayed); err != nil {
		t.Errorf("a relayed proof of before: %v", err)
	}
	if _, err := w.pay(timeout(t), pay); err != nil {
		t.Errorf("a call over the connection of before: %v", err)
	}
	if _, err := proof.Forward(timeout(t), via.conn, w.signed(pay, 1)); err != nil {
		t.Errorf("a relayed proof of after: %v", err)
	}
}

func TestAKeyIsUsedOnceTheKeyServerHasAcknowledgedIt(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	w, via := m.workload(payer).announced(), m.workload(relay)
	id, old := m.ca.ID(payer).String(), w.feature.Acknowledged()
	m.keys.refusing(errors.New("the disk is full"))
	before := m.keys.announcements(id)
	w.source.Renew()
	eventually(t, "attempt to announce", func() bool { return m.keys.announcements(id) > before+1 })
	// Neither who calls nor who relays notices.
	for range 5 {
		if _, err := w.pay(timeout(t), pay); err != nil {
			t.Errorf("a call before the acknowledgement: %v", err)
		}
		if _, err := proof.Forward(timeout(t), via.conn, w.signed(pay, 1)); err != nil {
			t.Errorf("a relayed request before the acknowledgement: %v", err)
		}
	}
	m.keys.refusing(nil)
	eventually(t, "acknowledgement", func() bool { return w.feature.Acknowledged() != old })
	if _, err := proof.Forward(timeout(t), via.conn, w.signed(pay, 1)); err != nil {
		t.Errorf("a relayed request after the acknowledgement: %v", err)
	}
}

// TestAServerThatLostAKeyLearnsItFromANewConnection has no key server at all: what a connection shows is all there is.
func TestAServerThatLostAKeyLearnsItFromANewConnection(t *testing.T) {
	t.Parallel()
	m := newMesh(t, func(c *meshConfig) { c.noKeys = true })
	w := m.workload(payer)
	for range 3 {
		if _, err := w.pay(timeout(t), pay); err != nil {
			t.Fatal(err)
		}
		w.source.Renew()
		m.source.Renew() // the receipt is signed with what the connection has shown
		if _, err := w.pay(timeout(t), pay); err != nil {
			t.Fatalf("after a rotation: %v", err)
		}
		m.source.Renew()
	}
	if n := m.bank.total.Load(); n != 6 {
		t.Errorf("%d was paid, want 6", n)
	}
}

// TestALeafRotationInTheMiddleOfConstantSignedCalls rotates the certificates of everybody again and again: no call fails, direct
// or relayed, and each is made once.
func TestALeafRotationInTheMiddleOfConstantSignedCalls(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	w, via := m.workload(payer).announced(), m.workload(relay).announced()
	must(t, m.feature.Announced(timeout(t)))
	ctx := t.Context()
	var stop atomic.Bool
	var direct, relayed atomic.Int64
	var calling sync.WaitGroup
	end := func() { stop.Store(true); calling.Wait() }
	t.Cleanup(end) // also after a failure: nobody logs when the test is over
	for range 4 {
		calling.Go(func() {
			for !stop.Load() {
				if _, err := w.pay(ctx, pay); err != nil {
					t.Errorf("direct call %d: %v", direct.Load(), err)
					return
				}
				direct.Add(1)
			}
		})
		calling.Go(func() {
			for !stop.Load() {
				request := w.signed(pay, 1)
				response, err := proof.Forward(ctx, via.conn, request)
				if err == nil {
					err = w.feature.VerifyReceipt(ctx, request, response)
				}
				if err != nil {
					t.Errorf("relayed call %d: %v", relayed.Load(), err)
					return
				}
				relayed.Add(1)
			}
		})
	}
	rotations := 0
	for ; rotations < 5; rotations++ {
		for _, source := range []interface {
			rotate() (string, func() string)
		}{
			rotating{w.feature, func() { w.source.Renew() }}, rotating{via.feature, func() { via.source.Renew() }}, rotating{m.feature, func() { m.source.Renew() }},
		} {
			old, now := source.rotate()
			eventually(t, "acknowledgement", func() bool { return now() != old })
		}
		before := [2]int64{direct.Load(), relayed.Load()}
		eventually(t, "calls after a rotation", func() bool {
			return t.Failed() || direct.Load() > before[0]+4 && relayed.Load() > before[1]+4
		})
	}
	end()
	t.Logf("%d direct calls and %d relayed ones during %d rotations of three workloads", direct.Load(), relayed.Load(), rotations)
	if total := m.bank.total.Load(); total != direct.Load()+relayed.Load() {
		t.Errorf("%d was paid, in %d direct calls and %d relayed ones", total, direct.Load(), relayed.Load())
	}
}

type rotating struct {
	feature *proof.Feature
	renew   func()
}

func (r rotating) rotate() (string, func() string) {
	old := r.feature.Acknowledged()
	r.renew()
	return old, r.feature.Acknowledged
}

// TestAPeerNeedsNoKeyServer has it down while everybody's certificates change.
func TestAPeerNeedsNoKeyServer(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	w := m.workload(payer).announced()
	m.stopKeys()
	for i := range 3 {
		w.source.Renew()
		m.source.Renew()
		if _, err := w.pay(timeout(t), pay); err != nil {
			t.Errorf("call %d: %v", i, err)
		}
		w.conn = w.client() // a new connection, on which the new certificate is shown
		if _, err := w.pay(timeout(t), pay); err != nil {
			t.Errorf("call %d over a new connection: %v", i, err)
		}
	}
}

// TestAKeyThatTheKeyServerHasLostIsAnnouncedAgain has it put back from an empty copy.
func TestAKeyThatTheKeyServerHasLostIsAnnouncedAgain(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	w := &workload{mesh: m, source: m.ca.Source(payer), feature: proof.NewChecking(proof.Config{Target: m.keysAddr, Server: m.ca.ID(keysPath)})}
	m.newGuard(w.source, nil, quiet(), interceptors.With(w.feature))
	via := m.workload(relay)
	id, kid := m.ca.ID(payer).String(), w.announced().feature.Acknowledged()
	for range 3 {
		m.keys.forget()
		eventually(t, "announcement", func() bool { return m.keys.knows(id, kid) })
	}
	if _, err := proof.Forward(timeout(t), via.conn, w.signed(pay, 1)); err != nil {
		t.Error(err)
	}
	// Who is known does not announce itself again and again.
	announced, checked := m.keys.announcements(id), m.keys.checked.Load()
	eventually(t, "questions for the own key", func() bool { return m.keys.checked.Load() > checked+5 })
	if n := m.keys.announcements(id) - announced; n > 1 {
		t.Errorf("%d announcements without a reason", n)
	}
}
