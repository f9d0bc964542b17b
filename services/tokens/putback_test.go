package tokens_test

import (
	"database/sql"
	"testing"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	tokensv1 "example.com/rolecall/gen/tokens/v1"
	"example.com/rolecall/internal/store/storetest"
)

func TestAWatchEndsWhereTheDatabaseIsPutBackFromACopy(t *testing.T) {
	t.Parallel()
	url := storetest.Postgres(t)
	h := newHouse(t, url)
	messages, ended := follow(t, h.admin, &tokensv1.WatchRevocationsRequest{})
	h.revoke(t, h.login(t))
	h.revoke(t, h.login(t))
	last := next(t, messages)
	for last.GetSequence() < 2 {
		last = next(t, messages)
	}
	db, err := sql.Open("pgx", url)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close() //nolint:errcheck // nothing is left to be written
	if _, err := db.ExecContext(t.Context(), "DELETE FROM tokens.revocations; UPDATE tokens.state SET sequence = 0"); err != nil {
		t.Fatal(err)
	}
	session := h.revoke(t, h.login(t))
	for range messages { // what was under way
	}
	if err := <-ended; status.Code(err) != codes.Unavailable {
		t.Errorf("the watch ended with %v, want Unavailable", err)
	}
	messages, _ = follow(t, h.admin, &tokensv1.WatchRevocationsRequest{Epoch: last.GetEpoch(), AfterSequence: last.GetSequence()})
	m := next(t, messages)
	for m.GetSession().GetSession() != session {
		m = next(t, messages)
	}
	if m.GetEpoch() == last.GetEpoch() {
		t.Error("the epoch is the same after the database was put back")
	}
}
