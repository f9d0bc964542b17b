// Package storetest gives tests empty databases: an SQLite file always, and a PostgreSQL database when
// ROLECALL_TEST_POSTGRES names a server where databases may be created (scripts/postgres starts one).
package storetest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
)

// Env names the PostgreSQL server of the tests: postgres://user@host:port/database.
const Env = "ROLECALL_TEST_POSTGRES"

// Each runs a test on every kind of database, each in a subtest with a database of its own. Without PostgreSQL that
// subtest is skipped, and fails where CI=true.
func Each(t *testing.T, test func(t *testing.T, url string)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		test(t, SQLite(t))
	})
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		test(t, Postgres(t))
	})
}

// SQLite returns the path of a file that does not exist yet.
func SQLite(t testing.TB) string { return filepath.Join(t.TempDir(), "test.db") }

// Postgres makes a database, drops it when the test is over, and returns its URL.
func Postgres(t testing.TB) string {
	t.Helper()
	server := os.Getenv(Env)
	if server == "" {
		if os.Getenv("CI") == "true" {
			t.Fatalf("%s is not set: in CI every test also runs on PostgreSQL; start one with scripts/postgres", Env)
		}
		t.Skipf("%s is not set: to run this test on PostgreSQL too, start one with scripts/postgres", Env)
	}
	name := "test_" + strings.ReplaceAll(uuid.NewString(), "-", "")
	administer(t, server, "CREATE DATABASE "+name)
	t.Cleanup(func() { administer(t, server, "DROP DATABASE "+name+" WITH (FORCE)") })
	own, err := url.Parse(server)
	if err != nil {
		t.Fatalf("%s is not a URL", Env)
	}
	own.Path = "/" + name
	return own.String()
}

func administer(t testing.TB, server, statement string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for {
		err := execute(ctx, server, statement)
		if inUse := new(pgconn.PgError); errors.As(err, &inUse) && inUse.Code == "55006" {
			continue // another session was still there after the 5 s that PostgreSQL waits for its end
		}
		if err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
		return
	}
}

func execute(ctx context.Context, server, statement string) (err error) {
	connector, err := stdlib.GetDefaultDriver().(*stdlib.Driver).OpenConnector(server)
	if err != nil {
		return fmt.Errorf("%s: %w", Env, err)
	}
	db := sql.OpenDB(connector)
	defer db.Close() //nolint:errcheck // the statement's own error is what counts
	_, err = db.ExecContext(ctx, statement)
	return err
}
