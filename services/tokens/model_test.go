package tokens

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"time"

	"example.com/rolecall/internal/store"
	"example.com/rolecall/internal/store/storetest"
	"example.com/rolecall/internal/watch"
)

// openTables opens an empty database with the production rules.
func openTables(t *testing.T, url string) tables {
	t.Helper()
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		t.Fatal(err)
	}
	db, err := store.Open(t.Context(), store.Config{Service: "tokens", URL: url, Migrations: files})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	config, err := Config{}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	return tables{db: db, config: config, changed: watch.NewBell(), owed: watch.NewBell()}
}

// The model has two clients of one session, as two windows of one program that share its file, a thief who has copied the
// first refresh token, and the clock. A refresh is two transactions, look and rotate, with users asked in between; the model
// interleaves the transactions of all in every order there is.
//
// Each actor holds the newest token that it has been given. The clock goes on past the grace once.

// actor is one who refreshes: which token it holds, and whether it is between look and rotate.
type actor struct {
	name    string
	holds   int // index in the chain, -1 after a refusal
	looking bool
}

// model is the reference: the rules of RFC 9700 section 4.14.2 with a grace, in a few lines, over a chain of numbered
// tokens.
type model struct {
	now     time.Duration
	current int
	used    []time.Duration // of token i, when it was first used
	revoked bool
}

func (m *model) standing(i int) standing {
	switch {
	case m.revoked:
		return ended
	case i == m.current:
		return current
	case m.now-m.used[i] <= 10*time.Second:
		return graced
	default:
		return stolen
	}
}

// rotate returns which token a refresh with token i gives.
func (m *model) rotate(i int) (standing, int) {
	s := m.standing(i)
	switch s {
	case current:
		m.used = append(m.used, m.now)
		m.current++
	case stolen:
		m.revoked = true
	}
	return s, i + 1
}

// schedule is an order of steps, each the index of an actor or clockTick.
type schedule []int

const clockTick = 3

// schedules returns every order in which the actors take their steps, two for each refresh, and the clock its one. Of orders
// that differ only in which of two neighbouring looks comes first it returns one: a look changes nothing.
func schedules(refreshes [3]int) []schedule {
	left := [4]int{2 * refreshes[0], 2 * refreshes[1], 2 * refreshes[2], 1}
	looks := func(who int) bool { return who != clockTick && left[who]%2 == 0 }
	looked := -1 // who took the last step, if that was a look
	var all []schedule
	var grow func(prefix schedule)
	grow = func(prefix schedule) {
		done := true
		for who := range left {
			if left[who] == 0 {
				continue
			}
			done = false
			if looks(who) && who < looked {
				continue
			}
			before := looked
			looked = -1
			if looks(who) {
				looked = who
			}
			left[who]--
			grow(append(prefix, who))
			left[who]++
			looked = before
		}
		if done {
			all = append(all, slices.Clone(prefix))
		}
	}
	grow(nil)
	return all
}

// run plays one schedule on the database and on the model, and compares after each step.
func run(ctx context.Context, tables tables, s schedule, user string, began time.Time) (err error) {
	chain := []refresh{newRefresh()}
	id := newID()
	if _, err := tables.add(ctx, session{id: id, username: user, all: true, authenticated: began}, chain[0], began); err != nil {
		return err
	}
	m := model{}
	actors := []*actor{{name: "client A"}, {name: "client B"}, {name: "thief"}}
	var told []string
	defer func() {
		if err != nil {
			err = fmt.Errorf("%s: %w", strings.Join(told, ", "), err)
		}
	}()
	for _, who := range s {
		if who == clockTick {
			told = append(told, "the grace passes")
			m.now += 10*time.Second + time.Microsecond
			continue
		}
		a, now := actors[who], began.Add(m.now)
		if a.holds < 0 {
			continue // refused before: logs in again, which is another session
		}
		if !a.looking {
			told = append(told, fmt.Sprintf("%s looks at token %d", a.name, a.holds))
			a.looking = true
			got, err := tables.look(ctx, chain[a.holds], now)
			if err != nil {
				return err
			}
			if want := m.standing(a.holds); got.standing != want {
				return fmt.Errorf("its standing is %d, want %d", got.standing, want)
			}
			continue
		}
		told = append(told, fmt.Sprintf("%s rotates token %d", a.name, a.holds))
		a.looking = false
		got, successor, err := tables.rotate(ctx, chain[a.holds], now)
		if err != nil {
			return err
		}
		want, index := m.rotate(a.holds)
		if got.standing != want {
			return fmt.Errorf("its standing is %d, want %d", got.standing, want)
		}
		switch want {
		case current:
			chain = append(chain, successor)
			a.holds = index
		case graced:
			if successor != chain[index] {
				return errors.New("it got another successor than the first who used the token")
			}
			a.holds = index
		default:
			a.holds = -1
		}
		if err := compare(ctx, tables, id, user, m, chain); err != nil {
			return err
		}
	}
	return nil
}

// compare checks the whole state of a session: one current token, revoked or not, and users owed a raise exactly then.
func compare(ctx context.Context, tables tables, id, user string, m model, chain []refresh) error {
	var currentToken string
	var revokedAt, revocations, owed int64
	if err := tables.db.QueryRow(ctx, "SELECT current_token, revoked_us, (SELECT COUNT(*) FROM revocations WHERE session = $1),"+
		" (SELECT COUNT(*) FROM raises WHERE username = $2) FROM sessions WHERE session = $1", id, user).
		Scan(&currentToken, &revokedAt, &revocations, &owed); err != nil {
		return err
	}
	if currentToken != chain[m.current].digest() {
		return fmt.Errorf("the current token is not token %d", m.current)
	}
	want := int64(0)
	if m.revoked {
		want = 1
	}
	if revoked := revokedAt != 0; revoked != m.revoked || revocations != want || owed != want {
		return fmt.Errorf("revoked %v, %d revocations, %d raises owed; the model says revoked %v", revoked, revocations, owed, m.revoked)
	}
	return nil
}

func TestModelOfTwoClientsAndAThiefInEveryOrder(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, url string) {
		tables := openTables(t, url)
		var all []schedule
		for _, refreshes := range [][3]int{{1, 1, 1}, {2, 0, 1}, {1, 0, 2}} {
			all = append(all, schedules(refreshes)...)
		}
		if !testing.Short() && !raceEnabled {
			all = append(all, schedules([3]int{2, 1, 1})...)
		}
		began, start := time.Now().Truncate(time.Microsecond), time.Now()
		for i, s := range all {
			if err := run(t.Context(), tables, s, fmt.Sprintf("u%d", i), began); err != nil {
				t.Errorf("schedule %v: %v", s, err)
				if t.Failed() && i > 10 {
					break
				}
			}
		}
		t.Logf("%d schedules in %s", len(all), time.Since(start).Round(time.Millisecond))
	})
}
