package nonces

import (
	"context"
	"database/sql"
	"fmt"
)

// Relation is a table or an index, which have their names in common.
type Relation struct {
	Name   string
	Create string // the statement
}

// Prepare makes those of the relations that are not there, in the first schema of the search path.
//
// In PostgreSQL one process does so at a time: two that make a table at once fail there, also with IF NOT EXISTS. And it looks for
// itself what is there: CREATE INDEX IF NOT EXISTS locks the table against all who write before it looks, for as long as the
// transaction lasts, so that a replica that starts would be in a deadlock with the calls of those that run.
func Prepare(ctx context.Context, tx *sql.Tx, d Dialect, relations ...Relation) error {
	if d == PostgreSQL {
		if _, err := tx.ExecContext(ctx, "SELECT pg_advisory_xact_lock(hashtext('rolecall'))"); err != nil {
			return fmt.Errorf("wait for the other processes that prepare the database: %w", err)
		}
	}
	there := "SELECT COUNT(*) > 0 FROM sqlite_master WHERE name = $1"
	if d == PostgreSQL {
		there = "SELECT to_regclass(quote_ident(current_schema()) || '.' || $1) IS NOT NULL"
	}
	for _, r := range relations {
		var made bool
		err := tx.QueryRowContext(ctx, there, r.Name).Scan(&made)
		if err == nil && !made {
			_, err = tx.ExecContext(ctx, r.Create)
		}
		if err != nil {
			return fmt.Errorf("create %s: %w", r.Name, err)
		}
	}
	return nil
}

// Create makes the tables of nonces, as Prepare does.
func Create(ctx context.Context, tx *sql.Tx, d Dialect) error {
	rows := ""
	if d == SQLite {
		rows = " WITHOUT ROWID" // one B-tree in place of two
	}
	err := Prepare(ctx, tx, d,
		Relation{"rolecall_nonces", "CREATE TABLE rolecall_nonces (nonce TEXT NOT NULL PRIMARY KEY, expires_us BIGINT NOT NULL)" + rows},
		Relation{"rolecall_nonces_expires", "CREATE INDEX rolecall_nonces_expires ON rolecall_nonces (expires_us)"},
		Relation{"rolecall_nonces_pruned", "CREATE TABLE rolecall_nonces_pruned (" +
			"only_row INTEGER NOT NULL PRIMARY KEY CHECK (only_row = 1), through_us BIGINT NOT NULL, raised_us BIGINT NOT NULL)"})
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, "INSERT INTO rolecall_nonces_pruned (only_row, through_us, raised_us) VALUES (1, 0, 0) ON CONFLICT (only_row) DO NOTHING")
	if err != nil {
		return fmt.Errorf("create the mark of nonces: %w", err)
	}
	return nil
}
