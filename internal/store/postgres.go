package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
)

// maxTransaction bounds how long a transaction may wait for its process: as long as one may take at most.
const maxTransaction = 30 * time.Second

// postgresConns is how many connections one process holds at most.
const postgresConns = 16

// openPostgres opens a schema of its own for the service, so that one database serves the whole mesh.
func openPostgres(ctx context.Context, url, schema string) (*DB, error) {
	db, err := postgresPool(url, schema, postgresConns)
	if err != nil {
		return nil, err
	}
	if err := makeSchema(ctx, db, schema); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return &DB{read: db, write: db, postgres: true}, nil
}

// postgresPool returns at most so many connections to a schema. It connects when it is first used.
func postgresPool(url, schema string, conns int) (*sql.DB, error) {
	cfg, err := pgx.ParseConfig(url) // its errors leave the password out
	if err != nil {
		return nil, err
	}
	cfg.RuntimeParams["search_path"] = schema
	cfg.RuntimeParams["application_name"] = "rolecall " + schema
	// Rows that are read to be changed are locked by ForUpdate, so no higher level is needed.
	cfg.RuntimeParams["default_transaction_isolation"] = "read committed"
	// A process that hangs inside a transaction would keep its row locks for ever.
	cfg.RuntimeParams["idle_in_transaction_session_timeout"] = fmt.Sprint(maxTransaction.Milliseconds())
	db := stdlib.OpenDB(*cfg)
	db.SetMaxOpenConns(conns)
	db.SetMaxIdleConns(conns)
	db.SetConnMaxIdleTime(5 * time.Minute)
	return db, nil
}

// makeSchema makes the schema, and in it the collation "binary" that SQLite has built in: names are ordered by their
// bytes, whatever the locale of the database is.
func makeSchema(ctx context.Context, db *sql.DB, schema string) error {
	return alone(ctx, db, func() error {
		name := pgx.Identifier{schema}.Sanitize()
		for _, statement := range []string{
			"CREATE SCHEMA IF NOT EXISTS " + name,
			"CREATE COLLATION IF NOT EXISTS " + name + `."binary" FROM "C"`,
		} {
			if _, err := db.ExecContext(ctx, statement); err != nil {
				return fmt.Errorf("make schema %s: %w", schema, err)
			}
		}
		return nil
	})
}

// alone runs f while no other process of the mesh is in here: CREATE ... IF NOT EXISTS and migrations fail when two are at
// it at once. The lock belongs to a connection of its own, so it ends with the process at the latest.
func alone(ctx context.Context, db *sql.DB, f func() error) error {
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // gives the connection back
	if _, err := conn.ExecContext(ctx, "SELECT pg_advisory_lock(hashtext('rolecall'))"); err != nil {
		return fmt.Errorf("wait for the other processes that prepare the database: %w", err)
	}
	err = f()
	_, unlock := conn.ExecContext(context.WithoutCancel(ctx), "SELECT pg_advisory_unlock(hashtext('rolecall'))")
	return errors.Join(err, unlock)
}
