package users_test

import (
	"context"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	usersv1 "example.com/rolecall/gen/users/v1"
	"example.com/rolecall/internal/node/nodetest"
	"example.com/rolecall/internal/store/storetest"
	"example.com/rolecall/services/users"
)

// eachDesk runs a test on every kind of database.
func eachDesk(t *testing.T, test func(t *testing.T, d *desk)) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, url string) { test(t, newDesk(t, url, users.Config{Cost: cheap})) })
}

func (d *desk) subject(t *testing.T) *usersv1.TokenSubject {
	t.Helper()
	answer, err := d.tokens.GetTokenSubject(nodetest.Context(t), &usersv1.GetTokenSubjectRequest{Username: "dave"})
	if err != nil {
		t.Fatalf("get token subject: %v", err)
	}
	return answer.GetSubject()
}

func (d *desk) raise(t *testing.T, generation int64) (int64, error) {
	t.Helper()
	answer, err := d.tokens.RaiseTokenGeneration(nodetest.Context(t), &usersv1.RaiseTokenGenerationRequest{Username: "dave", Generation: generation})
	return answer.GetGeneration(), err
}

func TestWhatRaisesTheGeneration(t *testing.T) {
	eachDesk(t, func(t *testing.T, d *desk) {
		ctx := nodetest.Context(t)
		setRoles := func(roles ...string) func() error {
			return func() error {
				_, err := d.alice.SetRoles(ctx, &usersv1.SetRolesRequest{Username: "dave", Roles: roles})
				return err
			}
		}
		raise := func(generation int64) func() error {
			return func() error { _, err := d.raise(t, generation); return err }
		}
		disable := func() error {
			_, err := d.alice.Disable(ctx, &usersv1.DisableRequest{Username: "dave"})
			return err
		}
		for _, step := range []struct {
			name                string
			do                  func() error
			generation, session int64
		}{
			{"roles", setRoles("b.b", "a.a", "b.b"), 1, 0},
			{"the same roles", setRoles("a.a", "b.b"), 1, 0},
			{"a generation that new roles have ended, whose sessions go on", raise(0), 2, 2},
			{"the same once more", raise(0), 2, 2},
			{"the generation that holds", raise(2), 3, 3},
			{"a generation that has ended with its sessions", raise(2), 3, 3},
			{"no roles", setRoles(), 4, 3},
			{"one from before the database was put back from a copy", raise(9), 10, 10},
			{"a password", func() error {
				_, err := d.alice.SetPassword(ctx, &usersv1.SetPasswordRequest{Username: "dave", Password: "another one"})
				return err
			}, 11, 11},
			{"disabling", disable, 12, 12},
			{"disabling twice", disable, 12, 12},
		} {
			if err := step.do(); err != nil {
				t.Fatalf("%s: %v", step.name, err)
			}
			if s := d.subject(t); s.GetGeneration() != step.generation || s.GetSessionGeneration() != step.session {
				t.Errorf("%s: generation %d, sessions %d; want %d and %d", step.name, s.GetGeneration(), s.GetSessionGeneration(), step.generation, step.session)
			}
		}
		if !d.subject(t).GetDisabled() {
			t.Error("the token subject of a disabled user is not disabled")
		}
	})
}

// Attack: generation overflow.
func TestAGenerationDoesNotOverflow(t *testing.T) {
	eachDesk(t, func(t *testing.T, d *desk) {
		const most = 1<<53 - 1
		for _, bad := range []int64{-1, most + 1, 1<<63 - 1, -1 << 63} {
			if _, err := d.raise(t, bad); reason(err) != "INVALID_FIELD" {
				t.Errorf("raise %d: got %v, want INVALID_FIELD", bad, err)
			}
		}
		for range 2 {
			if got, err := d.raise(t, most-1); err != nil || got != most {
				t.Errorf("raise the last but one: got %d, %v, want %d", got, err, int64(most))
			}
		}
		if got, err := d.raise(t, most); err != nil || got != most {
			t.Errorf("raise the last: got %d, %v, want %d", got, err, int64(most))
		}
		if _, err := d.alice.SetRoles(nodetest.Context(t), &usersv1.SetRolesRequest{Username: "dave", Roles: []string{"a.a"}}); err != nil {
			t.Errorf("set roles: %v", err)
		}
		// No token of the last generation is ever given out, so none is left that a raise would not end.
		if s := d.subject(t); s.GetGeneration() != most || !s.GetDisabled() {
			t.Errorf("got %v, want the last generation, and no more tokens", s)
		}
		if _, err := d.verify(t, "dave", password); reason(err) != "LOGIN_REFUSED" {
			t.Errorf("log in: got %v, want LOGIN_REFUSED", err)
		}
	})
}

// watch opens a stream of generations.
func (d *desk) watch(t *testing.T, req *usersv1.WatchTokenGenerationsRequest) func() (*usersv1.WatchTokenGenerationsResponse, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*nodetest.Patience)
	t.Cleanup(cancel)
	stream, err := d.tokens.WatchTokenGenerations(ctx, req)
	if err != nil {
		t.Fatalf("watch: %v", err)
	}
	return stream.Recv
}

func want(t *testing.T, next func() (*usersv1.WatchTokenGenerationsResponse, error), username string, generation, sequence int64) *usersv1.WatchTokenGenerationsResponse {
	t.Helper()
	m, err := next()
	for err == nil && username != "" && m.GetUsername() == "" {
		m, err = next() // a sign of life
	}
	if err != nil {
		t.Fatalf("watch: %v", err)
	}
	if m.GetUsername() != username || m.GetGeneration() != generation || m.GetSequence() != sequence || m.GetEpoch() == "" {
		t.Fatalf("got %v, want generation %d of %q with number %d", m, generation, username, sequence)
	}
	return m
}

func TestAWatchTellsOfEveryRaise(t *testing.T) {
	eachDesk(t, func(t *testing.T, d *desk) {
		d.create(t, "erin", "")
		roles := func(username string, roles ...string) {
			t.Helper()
			if _, err := d.alice.SetRoles(nodetest.Context(t), &usersv1.SetRolesRequest{Username: username, Roles: roles}); err != nil {
				t.Fatalf("set roles: %v", err)
			}
		}
		next := d.watch(t, &usersv1.WatchTokenGenerationsRequest{})
		want(t, next, "", 0, 0)
		began := time.Now()
		roles("dave", "a.a")
		want(t, next, "dave", 1, 1)
		t.Logf("told after %s", time.Since(began))
		roles("erin", "a.a")
		roles("dave", "b.b")

		late := d.watch(t, &usersv1.WatchTokenGenerationsRequest{})
		want(t, late, "erin", 1, 2)
		want(t, late, "dave", 2, 3)
		last := want(t, late, "", 0, 3)

		resumed := d.watch(t, &usersv1.WatchTokenGenerationsRequest{Epoch: last.GetEpoch(), AfterSequence: 2})
		want(t, resumed, "dave", 2, 3)
		want(t, resumed, "", 0, 3)

		ahead := d.watch(t, &usersv1.WatchTokenGenerationsRequest{Epoch: last.GetEpoch(), AfterSequence: 9})
		for name, next := range map[string]func() (*usersv1.WatchTokenGenerationsResponse, error){"the watch from the future": ahead, "one of the old epoch": late} {
			var err error
			for err == nil {
				_, err = next()
			}
			if status.Code(err) != codes.Unavailable {
				t.Errorf("%s ended with %v, want Unavailable", name, err)
			}
		}
		anew := d.watch(t, &usersv1.WatchTokenGenerationsRequest{Epoch: last.GetEpoch(), AfterSequence: 9})
		if m := want(t, anew, "erin", 1, 2); m.GetEpoch() == last.GetEpoch() {
			t.Error("the epoch is the same after the database turned out to be a copy")
		}
	})
}

func TestAWatchShowsThatItIsAliveAndEndsWithTheService(t *testing.T) {
	t.Parallel()
	d := newDesk(t, "", users.Config{Cost: cheap, Heartbeat: 10 * time.Millisecond})
	next := d.watch(t, &usersv1.WatchTokenGenerationsRequest{})
	for range 4 {
		want(t, next, "", 0, 0)
	}
	began := time.Now()
	if err := d.service.Stop(); err != nil {
		t.Errorf("stop: %v", err)
	}
	if took := time.Since(began); took > nodetest.Patience {
		t.Errorf("the stop took %s", took)
	}
	var err error
	for err == nil {
		_, err = next()
	}
	if status.Code(err) != codes.Unavailable {
		t.Errorf("the watch ended with %v, want Unavailable", err)
	}
}

func TestARaiseThroughOneReplicaReachesTheWatchersOfTheOtherWithinASecond(t *testing.T) {
	t.Parallel()
	url := storetest.Postgres(t)
	one := newDesk(t, url, users.Config{Cost: cheap})
	mesh := nodetest.New(t, roles)
	service := mesh.Start(t, "users", url, users.New(users.Config{Cost: cheap}))
	two := &desk{tokens: usersv1.NewUsersServiceClient(mesh.Client(t, "/service/tokens", service))}
	next := two.watch(t, &usersv1.WatchTokenGenerationsRequest{})
	want(t, next, "", 0, 0)
	raised := int64(0)
	nodetest.WithinASecond(t, "the watcher is told", func() time.Duration {
		began := time.Now()
		if _, err := one.raise(t, 0); err != nil {
			t.Fatal(err)
		}
		raised++
		want(t, next, "dave", raised, raised)
		return time.Since(began)
	})
}
