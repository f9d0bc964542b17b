package users_test

import (
	"database/sql"
	"sync/atomic"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	usersv1 "example.com/rolecall/gen/users/v1"
	"example.com/rolecall/internal/node/nodetest"
	"example.com/rolecall/internal/store/storetest"
	"example.com/rolecall/services/users"
)

func (d *desk) setRoles(t *testing.T, roles ...string) {
	t.Helper()
	if _, err := d.alice.SetRoles(nodetest.Context(t), &usersv1.SetRolesRequest{Username: "dave", Roles: roles}); err != nil {
		t.Fatalf("set roles: %v", err)
	}
}

func TestAWatchTellsOfRaisesAfterTheClockWasSetBack(t *testing.T) {
	t.Parallel()
	var back atomic.Int64 // nanoseconds
	d := newDesk(t, "", users.Config{Cost: cheap, Now: func() time.Time { return time.Now().Add(-time.Duration(back.Load())) }})
	next := d.watch(t, &usersv1.WatchTokenGenerationsRequest{})
	want(t, next, "", 0, 0)
	back.Store(int64(2 * time.Hour))
	d.setRoles(t, "a.a")
	want(t, next, "dave", 1, 1)
}

func TestAWatchEndsWhereTheDatabaseIsPutBackFromACopy(t *testing.T) {
	t.Parallel()
	url := storetest.Postgres(t)
	d := newDesk(t, url, users.Config{Cost: cheap})
	next := d.watch(t, &usersv1.WatchTokenGenerationsRequest{})
	want(t, next, "", 0, 0)
	d.setRoles(t, "a.a")
	want(t, next, "dave", 1, 1)
	d.setRoles(t, "b.b")
	last := want(t, next, "dave", 2, 2)
	db, err := sql.Open("pgx", url)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close() //nolint:errcheck // nothing is left to be written
	if _, err := db.ExecContext(t.Context(), "UPDATE users.raises SET sequence = 0; UPDATE users.users SET generation = 0, raised_sequence = 0"); err != nil {
		t.Fatal(err)
	}
	d.setRoles(t, "c.c")
	for err == nil {
		_, err = next()
	}
	if status.Code(err) != codes.Unavailable {
		t.Errorf("the watch ended with %v, want Unavailable", err)
	}
	anew := d.watch(t, &usersv1.WatchTokenGenerationsRequest{Epoch: last.GetEpoch(), AfterSequence: last.GetSequence()})
	if m := want(t, anew, "dave", 1, 1); m.GetEpoch() == last.GetEpoch() {
		t.Error("the epoch is the same after the database was put back")
	}
}
