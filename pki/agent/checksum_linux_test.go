package agent

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"
)

// A user who has huge files hashed holds up nobody but himself.
func TestAHugeExecutableStallsNoOtherUser(t *testing.T) {
	t.Parallel()
	began, finish := make(chan struct{}), make(chan struct{})
	slow := newChecksums()
	slow.hash = func(ctx context.Context, _ *os.File) (string, error) {
		if ctx.Value(slowly{}) == nil {
			return "quick", nil
		}
		began <- struct{}{}
		<-finish
		return "slow", nil
	}
	mine, other := peer{process: process{pid: os.Getpid()}, uid: 1}, peer{process: process{pid: os.Getpid()}, uid: 2}
	results := make(chan error)
	for range hashingPerUser {
		go func() {
			_, err := slow.of(context.WithValue(t.Context(), slowly{}, true), mine)
			results <- err
		}()
		select {
		case <-began:
		case <-time.After(patience):
			t.Fatal("the first files are not hashed at the same time")
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	waits := make(chan error, 1)
	go func() {
		_, err := slow.of(ctx, mine)
		waits <- err
	}()
	eventually(t, "a third file of the user waits", func() bool {
		slow.turns.mu.Lock()
		defer slow.turns.mu.Unlock()
		return slow.turns.users[mine.uid].waiting == hashingPerUser+1
	})
	cancel()
	if err := <-waits; !errors.Is(err, context.Canceled) {
		t.Errorf("the third file of the user: %v, want to wait in vain", err)
	}
	if sum, err := slow.of(t.Context(), other); sum != "quick" || err != nil {
		t.Errorf("the file of another user: %q, %v", sum, err)
	}
	close(finish)
	for range hashingPerUser {
		if err := <-results; err != nil {
			t.Errorf("a file of the first user: %v", err)
		}
	}
	if len(slow.turns.users) != 0 {
		t.Errorf("%d users are remembered although nobody waits", len(slow.turns.users))
	}
}

// slowly marks the calls whose hash takes long.
type slowly struct{}

func TestAHashEndsWithWhoeverWaitsForIt(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	f, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if sum, err := hashFile(ctx, f); !errors.Is(err, context.Canceled) {
		t.Errorf("got %q, %v; want the end of the context", sum, err)
	}
}

func TestAnEntryThatCannotBeEvaluatedIsWarnedOfOnce(t *testing.T) {
	t.Parallel()
	var log lockedBuffer
	a := startAgent(t, func(c *Config, _ *testSigner) { c.Log = slog.New(slog.NewTextHandler(&log, nil)) })
	a.sums.hash = func(context.Context, *os.File) (string, error) { return "", os.ErrPermission }
	selector, err := ParseSelector("unix:sha256:" + strings.Repeat("0", 64))
	if err != nil {
		t.Fatal(err)
	}
	began, err := StartTime(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	other := append(ownEntries(t, a, "/service/other"), Entry{ID: a.id("/service/ledger"), Selectors: []Selector{selector}})
	for want := 1; want <= 2; want++ { // what is read anew is warned of anew
		a.SetEntries(other)
		for range 3 {
			got, err := a.attest(t.Context(), peer{process: process{os.Getpid(), began}, uid: uint32(os.Getuid())}, nil)
			if err != nil || len(got) != 1 {
				t.Fatalf("the process is %v (error %v), want what the first entry says", got, err)
			}
		}
		if got := strings.Count(log.String(), "level=WARN"); got != want || !strings.Contains(log.String(), "/service/ledger") {
			t.Errorf("%d warnings, want %d that name the entry: %s", got, want, log.String())
		}
	}
}
