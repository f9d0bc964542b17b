// Package store opens the database of one service: an SQLite file of its own, or a schema of its own in a PostgreSQL
// database. The same SQL runs on both.
//
//	db, err := store.Open(ctx, store.Config{Service: "ledger", Dir: dir, Migrations: migrations})
//	err = db.Write(ctx, func(tx *store.Tx) error { ... })
//	err = db.QueryRow(ctx, "SELECT owner FROM accounts WHERE account_id = $1", id).Scan(&owner)
//
// What makes one SQL enough: placeholders are $1, $2; times are microseconds since 1970 in BIGINT; text that is ordered is
// declared COLLATE "binary", which SQLite has and Open makes in PostgreSQL; rows that a transaction reads in order to
// change them are read with Tx.ForUpdate. It is no query builder and hides no SQL.
package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"example.com/rolecall/interceptors/exactlyonce"
)

// Config says which database to open.
type Config struct {
	// Service names the file on SQLite and the schema on PostgreSQL: a lower-case word.
	Service string
	// URL is postgres://..., the path of an SQLite file, or empty for <Dir>/<Service>.db.
	URL string
	// Dir is where the SQLite file lies if URL is empty. It is made, with mode 0700, if it is not there.
	Dir string
	// Migrations holds goose migrations, 0001_name.sql and so on, at its root.
	Migrations fs.FS
	// Log tells of migrations and of transactions that were tried again. nil: nothing is told.
	Log *slog.Logger
}

// DB is an open database. Safe for concurrent use.
type DB struct {
	read     *sql.DB
	write    *sql.DB
	once     exactlyonce.DB // runs the transactions that write
	postgres bool
	log      *slog.Logger
}

var serviceName = regexp.MustCompile(`^[a-z][a-z0-9_]{0,30}$`)

// Open opens the database and brings its schema up to date. Several processes may do so at once on PostgreSQL; an SQLite
// file belongs to one process. The caller closes what it gets.
func Open(ctx context.Context, cfg Config) (*DB, error) {
	if !serviceName.MatchString(cfg.Service) {
		return nil, fmt.Errorf("open database: service name %q is not a lower-case word of at most 31 letters", cfg.Service)
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	var db *DB
	var err error
	switch {
	case strings.HasPrefix(cfg.URL, "postgres://"), strings.HasPrefix(cfg.URL, "postgresql://"):
		db, err = openPostgres(ctx, cfg.URL, cfg.Service)
	case strings.Contains(cfg.URL, "://"):
		return nil, errors.New("open database: the URL is neither postgres://... nor the path of an SQLite file")
	case cfg.URL != "":
		db, err = openSQLite(cfg.URL, cfg.Service)
	default:
		db, err = openSQLite(filepath.Join(cfg.Dir, cfg.Service+".db"), cfg.Service)
	}
	if err != nil {
		return nil, fmt.Errorf("open database of %s: %w", cfg.Service, err)
	}
	db.log = cfg.Log
	db.once = exactlyonce.SQLite(db.write)
	if db.postgres {
		db.once = exactlyonce.PostgreSQL(db.write)
	}
	if err := db.migrate(ctx, cfg.Migrations); err != nil {
		return nil, errors.Join(fmt.Errorf("migrate database of %s: %w", cfg.Service, err), db.Close())
	}
	return db, nil
}

// Close waits for the statements that run and closes the database.
func (db *DB) Close() error {
	if db.read == db.write {
		return db.write.Close()
	}
	return errors.Join(db.read.Close(), db.write.Close())
}

// Ping says whether the database answers.
func (db *DB) Ping(ctx context.Context) error { return db.read.PingContext(ctx) }

// Shared says whether other processes may write to the database: true for PostgreSQL.
func (db *DB) Shared() bool { return db.postgres }

// Query reads rows outside any transaction.
func (db *DB) Query(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	return db.read.QueryContext(ctx, query, args...)
}

// QueryRow reads one row outside any transaction.
func (db *DB) QueryRow(ctx context.Context, query string, args ...any) *sql.Row {
	return db.read.QueryRowContext(ctx, query, args...)
}

// Micros is how a time is stored: microseconds since 1970.
func Micros(t time.Time) int64 { return t.UnixMicro() }

// Time reads what Micros wrote.
func Time(micros int64) time.Time { return time.UnixMicro(micros).UTC() }
