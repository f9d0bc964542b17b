package proof_test

import (
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"example.com/rolecall/interceptors"
	"example.com/rolecall/interceptors/proof"
)

func TestASecondProcessDoesNotStartWithTheMarkOfAnother(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "mark")
	m := newMesh(t, func(c *meshConfig) { c.config.MarkFile = file })
	guard := func() (*interceptors.Guard, error) {
		return interceptors.New(m.ca.Source(bankPath), nil, quiet(), interceptors.Audit(slog.DiscardHandler), interceptors.With(proof.NewFast(proof.Config{MarkFile: file})))
	}
	if second, err := guard(); err == nil {
		must(t, second.Close())
		t.Error("a second one has started beside the first")
	} else if !strings.Contains(err.Error(), "another process, which still runs") || !strings.Contains(err.Error(), file) {
		t.Errorf("got %v, want to be told of the other process and the file", err)
	}
	// The one that it waits for ends, and what that has accepted is known.
	a := m.attacker(payer)
	text := a.prove(pay, dave)
	if _, err := send(timeout(t), a.conn, pay, dave, "rolecall-proof", text); err != nil {
		t.Fatal(err)
	}
	m.config.cold = true
	m.restart()
	a.conn = m.bare(a.source)
	_, err := send(timeout(t), a.conn, pay, dave, "rolecall-proof", text)
	refused(t, err, codes.Unauthenticated, "PROOF_EXPIRED")
}

func TestAProcessWaitsForTheMarkOfTheOneBefore(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "mark")
	before, err := proof.OpenMark(file, 100)
	must(t, err)
	opened := make(chan error, 1)
	go func() {
		after, err := proof.OpenMarkWithin(file, 0, time.Minute)
		if err == nil && after.Through() != 103 {
			t.Errorf("it says %d, want 103", after.Through())
		}
		opened <- err
	}()
	must(t, before.Cover(101))
	must(t, before.Close())
	if err := before.Cover(1000); err == nil {
		t.Error("the mark was moved after it was given up")
	}
	must(t, <-opened)
}

// The mark is at the last proof itself, so that there was nothing to write down.
func TestAProofOfTheVerySecondOfTheMarkIsNotTakenAgain(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "mark")
	mark, err := proof.OpenMark(file, began.Unix()-10)
	must(t, err)
	w := mark.Window()
	burns(t, w, issued("a", 1, 0), nil, "a proof that moves the mark")
	last := int(mark.Through() - began.Unix())
	burns(t, w, issued("a", 2, last), nil, "a proof of the second to which it was moved")
	if int(mark.Through()-began.Unix()) != last {
		t.Fatalf("the mark was moved to %d, want it where it was", mark.Through())
	}
	must(t, mark.Close())
	mark, err = proof.OpenMark(file, 0)
	must(t, err)
	defer func() { must(t, mark.Close()) }()
	w = mark.Window()
	burns(t, w, issued("a", 2, last), proof.ErrExpired, "the same after a restart")
	burns(t, w, issued("a", 3, last+1), nil, "one of a second later")
}
