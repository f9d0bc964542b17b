package tokens

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"example.com/rolecall/internal/store"
	"example.com/rolecall/internal/store/storetest"
)

func TestAUserHasAHundredSessionsAtMost(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, url string) {
		tables, began := openTables(t, url), time.Now().Truncate(time.Microsecond)
		var first []refresh
		for i := range maxSessions + 2 {
			token, now := newRefresh(), began.Add(time.Duration(i)*time.Second)
			if _, err := tables.add(t.Context(), session{id: newID(), username: "dave", authenticated: now}, token, now); err != nil {
				t.Fatal(err)
			}
			first = append(first, token)
			if i == 1 { // the second is in use
				if _, first[1], _ = tables.rotate(t.Context(), token, began.Add(time.Hour)); first[1] == (refresh{}) {
					t.Fatal("rotate failed")
				}
			}
		}
		for i, token := range first {
			got, err := tables.look(t.Context(), token, began.Add(time.Hour))
			if err != nil {
				t.Fatal(err)
			}
			want := current
			if i == 0 || i == 2 {
				want = ended
			}
			if got.standing != want {
				t.Errorf("session %d has the standing %d, want %d", i, got.standing, want)
			}
		}
		found, err := tables.revokedAfter(t.Context(), 0, began, 10)
		if err != nil || len(found) != 2 {
			t.Errorf("verifiers are told of %d sessions, want the 2 that ended: %v", len(found), err)
		}
	})
}

func TestASessionIsNotRefreshedWithoutAPause(t *testing.T) {
	t.Parallel()
	tables, now := openTables(t, storetest.SQLite(t)), time.Now().Truncate(time.Microsecond)
	token := newRefresh()
	if _, err := tables.add(t.Context(), session{id: newID(), username: "dave", authenticated: now}, token, now); err != nil {
		t.Fatal(err)
	}
	for range maxRotations {
		var err error
		if _, token, err = tables.rotate(t.Context(), token, now); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := tables.rotate(t.Context(), token, now); !errors.Is(err, errTooOften) {
		t.Fatalf("got %v, want it refused", err)
	}
	later := now.Add(11*time.Second + usersTimeout)
	if h, _, err := tables.rotate(t.Context(), token, later); err != nil || h.standing != current {
		t.Errorf("after the grace the same token: %v, %v", h.standing, err)
	}
	var kept int
	if err := tables.db.QueryRow(t.Context(), "SELECT COUNT(*) FROM spent").Scan(&kept); err != nil || kept != 1 {
		t.Errorf("%d used tokens are kept, want 1: %v", kept, err)
	}
}

func TestTheDatabaseAloneGivesNoToken(t *testing.T) {
	t.Parallel()
	tables, now := openTables(t, storetest.SQLite(t)), time.Now().Truncate(time.Microsecond)
	token := newRefresh()
	if _, err := tables.add(t.Context(), session{id: newID(), username: "dave", authenticated: now}, token, now); err != nil {
		t.Fatal(err)
	}
	_, second, err := tables.rotate(t.Context(), token, now)
	if err != nil {
		t.Fatal(err)
	}
	var text, sealed string
	if err := tables.db.QueryRow(t.Context(), "SELECT s.locator || s.session || s.current_token || p.token || p.successor, p.successor FROM sessions s JOIN spent p ON p.session = s.session").Scan(&text, &sealed); err != nil {
		t.Fatal(err)
	}
	for _, secret := range []refresh{token, second} {
		for _, form := range []string{secret.text()[len(refreshPrefix):], string(secret[:]), b64.EncodeToString(secret[locatorSize:])} {
			if strings.Contains(text, form) {
				t.Error("a token stands in the database")
			}
		}
	}
	if _, err := second.open(sealed); err == nil {
		t.Error("a token other than the used one opens the successor")
	}
	if got, err := token.open(sealed); err != nil || got != second {
		t.Errorf("the used token does not open its successor: %v", err)
	}
	if shown := fmt.Sprintf("%v %+v %#v %s %x %d", token, token, token, token, token, token); strings.Trim(shown, "hiden ") != "" {
		t.Errorf("a token shows itself: %s", shown)
	}
}

func TestARaiseIsOwedUntilUsersHasBeenTold(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, url string) {
		tables, ctx := openTables(t, url), t.Context()
		owed := func() debt {
			t.Helper()
			all, err := tables.debts(ctx, "", 10)
			if err != nil || len(all) != 1 {
				t.Fatalf("%d raises are owed, want 1: %v", len(all), err)
			}
			return all[0]
		}
		oweDebt(t, tables, "dave")
		d := owed()
		d.generation = 7
		if fixed, err := tables.fix(ctx, d); err != nil || fixed != d || owed() != d {
			t.Errorf("fix: %+v, %v, %+v", fixed, err, owed())
		}
		oweDebt(t, tables, "dave") // another theft, while users is being told of the first
		if err := tables.settle(ctx, d); err != nil {
			t.Fatal(err)
		}
		if again := owed(); again.generation != -1 {
			t.Errorf("the second raise is settled with the first: %+v", again)
		}
		if fixed, err := tables.fix(ctx, d); err != nil || fixed != owed() || fixed.generation != -1 {
			t.Errorf("an outdated raise was fixed: %+v, %v", fixed, err)
		}
		if err := tables.settle(ctx, owed()); err != nil {
			t.Fatal(err)
		}
		if all, err := tables.debts(ctx, "", 10); err != nil || len(all) != 0 {
			t.Errorf("still owed: %v, %v", all, err)
		}
	})
}

func TestARaiseIsToldOnceHoweverOftenItIsHeard(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, url string) {
		tables, now := openTables(t, url), time.Now()
		for _, generation := range []int64{3, 3, 2, 4, 4} {
			if err := tables.raised(t.Context(), "dave", generation, now); err != nil {
				t.Fatal(err)
			}
		}
		found, err := tables.revokedAfter(t.Context(), 0, now, 10)
		if err != nil || len(found) != 2 || found[0].generation != 3 || found[0].sequence != 1 || found[1].generation != 4 || found[1].sequence != 2 {
			t.Errorf("got %+v, %v, want generations 3 and 4 with numbers 1 and 2", found, err)
		}
	})
}

func TestWhatHasEndedIsRemoved(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, url string) {
		tables, now := openTables(t, url), time.Now().Truncate(time.Microsecond)
		token := newRefresh()
		if _, err := tables.add(t.Context(), session{id: "one", username: "dave", authenticated: now}, token, now); err != nil {
			t.Fatal(err)
		}
		if _, _, err := tables.rotate(t.Context(), token, now); err != nil {
			t.Fatal(err)
		}
		if err := tables.revokeUser(t.Context(), "dave", now); err != nil {
			t.Fatal(err)
		}
		if err := tables.publish(t.Context(), "kid", []byte("{}"), now); err != nil {
			t.Fatal(err)
		}
		count := func() (n int) {
			t.Helper()
			if err := tables.db.QueryRow(t.Context(), "SELECT (SELECT COUNT(*) FROM sessions) + (SELECT COUNT(*) FROM spent) +"+
				" (SELECT COUNT(*) FROM revocations) + (SELECT COUNT(*) FROM signing_keys)").Scan(&n); err != nil {
				t.Fatal(err)
			}
			return n
		}
		for _, step := range []struct {
			after time.Duration
			want  int
		}{{0, 4}, {time.Minute, 2}, {20 * time.Minute, 1}, {25 * time.Hour, 0}} {
			if err := tables.purge(t.Context(), now.Add(step.after)); err != nil {
				t.Fatal(err)
			}
			if got := count(); got != step.want {
				t.Errorf("after %s there are %d rows, want %d", step.after, got, step.want)
			}
		}
	})
}

func TestOnePurgeRemovesAllThatHasEnded(t *testing.T) {
	t.Parallel()
	tables, now := openTables(t, storetest.SQLite(t)), time.Now().Truncate(time.Microsecond)
	const many = 2*purgeBatch + 1
	if err := tables.db.Write(t.Context(), func(tx *store.Tx) error {
		for i := range many {
			if err := tables.append(tx, revocation{username: "dave", generation: int64(i)}, now); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if err := tables.purge(t.Context(), now.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	var left int
	if err := tables.db.QueryRow(t.Context(), "SELECT COUNT(*) FROM revocations").Scan(&left); err != nil || left != 0 {
		t.Errorf("%d of %d are left: %v", left, many, err)
	}
}

// A service that was started again with a shorter life of tokens still tells of those that it gave out before.
func TestARevocationIsRememberedForAsLongAsAnyTokenMayLive(t *testing.T) {
	t.Parallel()
	tables, now := openTables(t, storetest.SQLite(t)), time.Now().Truncate(time.Microsecond)
	tables.config.AccessLife = time.Second
	if err := tables.raised(t.Context(), "dave", 1, now); err != nil {
		t.Fatal(err)
	}
	found, err := tables.revokedAfter(t.Context(), 0, now.Add(11*time.Minute), 10)
	if err != nil || len(found) != 1 {
		t.Errorf("eleven minutes later verifiers are told of %d revocations, want 1: %v", len(found), err)
	}
}

// Attack: a false alarm, by two who present tokens within the grace while users is slow to answer one of them.
func TestAUsedTokenIsKeptForWhoeverPresentedItWithinTheGrace(t *testing.T) {
	t.Parallel()
	tables, now := openTables(t, storetest.SQLite(t)), time.Now().Truncate(time.Microsecond)
	first := newRefresh()
	if _, err := tables.add(t.Context(), session{id: newID(), username: "dave", authenticated: now}, first, now); err != nil {
		t.Fatal(err)
	}
	_, second, err := tables.rotate(t.Context(), first, now)
	if err != nil {
		t.Fatal(err)
	}
	presented := now.Add(9 * time.Second)
	if _, _, err := tables.rotate(t.Context(), second, presented.Add(9*time.Second)); err != nil {
		t.Fatal(err)
	}
	if h, again, err := tables.rotateAt(t.Context(), first, presented, presented.Add(9*time.Second)); err != nil || h.standing != graced || again != second {
		t.Errorf("the standing is %d, want %d: %v", h.standing, graced, err)
	}
}
