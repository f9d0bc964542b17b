package ledger

import (
	"errors"
	"fmt"
	"testing"

	"example.com/rolecall/internal/store"
)

func TestWhichOutcomesWakeAWatch(t *testing.T) {
	t.Parallel()
	unknown := fmt.Errorf("%w: the disk is full", store.ErrOutcomeUnknown)
	for _, c := range []struct {
		name    string
		account string
		entries int64
		err     error
		want    bool
	}{
		{"a transaction that was committed", "a", 4, nil, true},
		{"one whose entries are known already", "a", 3, nil, false},
		{"one of another account", "b", 4, nil, false},
		{"one that was refused", "a", 4, errBelowZero, false},
		{"one that failed", "a", 4, errors.New("no such table"), false},
		{"one that may have been committed", "a", 4, unknown, true},
		{"one of another account that may have been committed", "b", 4, unknown, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWatchers()
			topic := w.join("a")
			w.announce(map[string]int64{"a": 3})
			changed := topic.next()
			w.tell(map[string]int64{c.account: c.entries}, c.err)
			if got := isClosed(changed); got != c.want {
				t.Errorf("woken: %v, want %v", got, c.want)
			}
		})
	}
}

// An outcome that is not known leaves the count alone: that of the next commit, which may be the same, still wakes.
func TestAWatchIsWokenAgainAfterAnUnknownOutcome(t *testing.T) {
	t.Parallel()
	w := newWatchers()
	topic := w.join("a")
	w.tell(map[string]int64{"a": 4}, store.ErrOutcomeUnknown)
	changed := topic.next()
	w.tell(map[string]int64{"a": 4}, nil)
	if !isClosed(changed) {
		t.Error("asleep although the account has an entry more")
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
