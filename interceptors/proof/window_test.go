package proof_test

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"example.com/rolecall/interceptors/proof"
)

// nonceOf is a nonce that a test can name by a number.
func nonceOf(n int) string {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:], uint64(n)*0x9e3779b97f4a7c15)
	binary.BigEndian.PutUint64(b[8:], uint64(n))
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// began is when the tests of windows begin.
var began = time.Unix(1_800_000_000, 0)

// issued is a nonce of a proof that lives for 30 s, with 5 s of leeway, burned so many seconds after began.
func issued(signer string, n, second int) proof.Nonce {
	at := began.Add(time.Duration(second) * time.Second)
	return proof.Nonce{Signer: signer, Value: nonceOf(n), Issued: at, Expires: at.Add(35 * time.Second), Now: at}
}

// burns checks what a window says.
func burns(t *testing.T, w proof.Window, n proof.Nonce, want error, what string) {
	t.Helper()
	if err := w.Burn(t.Context(), n); !errors.Is(err, want) || (err == nil) != (want == nil) {
		t.Errorf("%s: got %v, want %v", what, err, want)
	}
}

func TestANonceIsBurnedOnce(t *testing.T) {
	t.Parallel()
	w := proof.MemoryWindow(proof.DefaultPerSigner, 1_000_000)
	burns(t, w, issued("a", 1, 0), nil, "the first")
	burns(t, w, issued("a", 1, 0), proof.ErrReplayed, "the same again")
	burns(t, w, issued("b", 1, 0), nil, "another identity with the same nonce")
	burns(t, w, issued("a", 2, 0), nil, "another nonce")
	later := issued("a", 1, 0)
	later.Expires = later.Expires.Add(20 * time.Second)
	burns(t, w, later, proof.ErrReplayed, "the same nonce with another end")
	later.Now = began.Add(34 * time.Second)
	burns(t, w, later, proof.ErrReplayed, "in its last second")
}

func TestOneOfManyBurnsWins(t *testing.T) {
	t.Parallel()
	w := proof.MemoryWindow(proof.DefaultPerSigner, 1_000_000)
	for round := range 200 {
		var wins atomic.Int64
		var burning sync.WaitGroup
		for range 16 {
			burning.Go(func() {
				if w.Burn(t.Context(), issued("a", round, round/10)) == nil {
					wins.Add(1)
				}
			})
		}
		burning.Wait()
		if wins.Load() != 1 {
			t.Fatalf("round %d: burned %d times", round, wins.Load())
		}
	}
}

func TestWhatWasForgottenStaysRefusedWhenTheClockIsSetBack(t *testing.T) {
	t.Parallel()
	w := proof.MemoryWindow(proof.DefaultPerSigner, 1_000_000)
	old := issued("a", 1, 0)
	burns(t, w, old, nil, "the first")
	burns(t, w, issued("b", 2, 100), nil, "another signer, 100 s later")
	if n := proof.Live(w); n != 1 {
		t.Errorf("%d nonces are remembered, want 1", n)
	}
	// The clock is set back by 90 s: the first proof would be good again.
	old.Now = began.Add(10 * time.Second)
	burns(t, w, old, proof.ErrExpired, "a forgotten one after the clock was set back")
	burns(t, w, issued("b", 2, 100), proof.ErrReplayed, "one that is remembered")
	burns(t, w, issued("c", 3, 101), nil, "a new one")
}

func TestNoncesAreBoundedByIdentityAndInAll(t *testing.T) {
	t.Parallel()
	w := proof.MemoryWindow(1000, 10_000)
	for i := range 1000 {
		burns(t, w, issued("a", i, 0), nil, "below the bound")
	}
	burns(t, w, issued("a", 1000, 0), proof.ErrFull, "above the bound")
	burns(t, w, issued("a", 5, 0), proof.ErrReplayed, "a replay, when it is full")
	burns(t, w, issued("a", 1001, 60), nil, "when the first have expired")
	// Ten identities that take all they can leave everybody else a share.
	for signer := range 10 {
		for i := range 1000 {
			_ = w.Burn(t.Context(), issued(fmt.Sprint("greedy", signer), i, 60))
		}
	}
	for signer := range 100 {
		for i := range 5 {
			burns(t, w, issued(fmt.Sprint("modest", signer), i, 60), nil, "a fair share")
		}
	}
	if n := proof.Live(w); n > 10_000 {
		t.Errorf("%d nonces are remembered, want 10,000 at most", n)
	}
	burns(t, w, issued("modest1", 6, 200), nil, "later")
	if n := proof.Live(w); n != 1 {
		t.Errorf("%d nonces are remembered when all others have expired, want 1", n)
	}
}

// TestTenMillionNoncesFromOneIdentity has the window refuse what is too many, and nobody else.
func TestTenMillionNoncesFromOneIdentity(t *testing.T) {
	t.Parallel()
	w, many := proof.MemoryWindow(proof.DefaultPerSigner, 1_000_000), 10_000_000
	if raceEnabled || testing.Short() {
		many = 300_000
	}
	accepted := 0
	for i := range many {
		switch err := w.Burn(context.Background(), issued("greedy", i, 0)); {
		case err == nil:
			accepted++
		case !errors.Is(err, proof.ErrFull):
			t.Fatalf("nonce %d: %v", i, err)
		}
	}
	if accepted != 65_536 || proof.Live(w) != 65_536 {
		t.Errorf("%d of %d were accepted and %d are remembered, want 65,536", accepted, many, proof.Live(w))
	}
	for i := range 1000 {
		burns(t, w, issued(fmt.Sprint("other", i), i, 0), nil, "others")
	}
}

func TestTheMarkSaysWhatMayHaveBeenAccepted(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "mark")
	m, err := proof.OpenMark(path, began.Unix())
	must(t, err)
	read := func() string {
		text, err := os.ReadFile(path)
		must(t, err)
		return strings.TrimSpace(string(text))
	}
	const head = "rolecall-proofs-accepted-through "
	for _, c := range []struct {
		issued int64
		want   int64
	}{{-5, 0}, {0, 0}, {1, 3}, {3, 3}, {2, 3}, {4, 6}, {100, 102}} {
		must(t, m.Cover(began.Unix()+c.issued))
		if got, want := read(), head+fmt.Sprint(began.Unix()+c.want); got != want {
			t.Errorf("after a proof of second %d: %q, want %q", c.issued, got, want)
		}
	}
	must(t, m.Close())
	again, err := proof.OpenMark(path, began.Unix()+1000)
	must(t, err)
	if got := again.Through(); got != began.Unix()+102 {
		t.Errorf("opened again it says %d, want %d: what the file says, not the time of the start", got, began.Unix()+102)
	}
	must(t, again.Close())
	for _, text := range []string{"", "x", head, head + "\n", head + "-1\n", head + "01\n", head + "1", head + "1\n\n", head + "1e3\n", head + "9999999999999\n"} {
		must(t, os.WriteFile(path, []byte(text), 0o600))
		if _, err := proof.OpenMark(path, 0); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%q was read as a mark: %v", text, err)
		}
	}
	if _, err := proof.OpenMark(filepath.Join(path, "below", "a", "file"), 0); err == nil {
		t.Error("a mark where none can be written was opened")
	}
}
