package exactlyonce

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"example.com/rolecall/interceptors/internal/nonces"
)

// Dialect is what the SQL is written for.
type Dialect = nonces.Dialect

// The dialects.
const (
	DialectSQLite     = nonces.SQLite
	DialectPostgreSQL = nonces.PostgreSQL
)

// DB runs transactions: SQLite and PostgreSQL make one. Safe for concurrent use.
type DB interface {
	// Write runs f in one transaction, once, and commits if f returns nil. An error of f comes back as it is, and one of a
	// commit that the database did not answer is ErrOutcomeUnknown. A commit that it refused is any other error. An error or a
	// panic of f undoes the transaction. The context that f gets is ctx or one made of it, for the statements. While the database
	// is not open yet, Write returns any error.
	Write(ctx context.Context, f func(ctx context.Context, tx *sql.Tx) error) error
	// Dialect is called only while Write runs f.
	Dialect() Dialect
}

// ErrOutcomeUnknown is what DB.Write returns when the database did not answer the commit.
var ErrOutcomeUnknown = errors.New("whether the transaction was committed is not known")

// errNotCommitted is what a transaction ends with that the database refuses to commit: a constraint that is checked at the end.
var errNotCommitted = errors.New("the database refused to commit")

// maxTransaction bounds one transaction from its begin on; the wait for a connection is bounded by the caller alone. The
// pruning of nonces relies on it.
const maxTransaction = 30 * time.Second

// SQLite runs transactions in an SQLite database. It should have one connection, db.SetMaxOpenConns(1), which is then the
// queue of those who write, in the order of arrival; and begin with BEGIN IMMEDIATE, which drivers have a setting for. A
// handler then does all its reading in Tx(ctx): another connection is not to be had.
func SQLite(db *sql.DB) DB { return pool{db, DialectSQLite} }

// PostgreSQL runs transactions in a PostgreSQL database, on the isolation level that is the database's default. A handler
// that reads rows in order to change them locks them (FOR UPDATE), or the level is SERIALIZABLE. The tables are made in the
// first schema of search_path.
func PostgreSQL(db *sql.DB) DB { return pool{db, DialectPostgreSQL} }

type pool struct {
	db      *sql.DB
	dialect Dialect
}

// Dialect implements DB.
func (p pool) Dialect() Dialect { return p.dialect }

// Write implements DB. A caller that leaves ends the wait for a connection and the statement that runs. It does not
// interrupt the commit, because nobody would know then whether it took place.
func (p pool) Write(ctx context.Context, f func(ctx context.Context, tx *sql.Tx) error) error {
	conn, err := p.db.Conn(ctx) // on SQLite: the queue for the one writer
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // gives the connection back; nothing can go wrong that matters any more
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), maxTransaction)
	defer cancel()
	tx, err := conn.BeginTx(bounded, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() //nolint:errcheck // also when f panics; after Commit there is nothing left to roll back
	// database/sql rolls back when bounded ends, but only once the statement that runs has: it needs a bound of its own.
	statements, stop := context.WithTimeout(ctx, maxTransaction)
	defer stop()
	if err := f(statements, tx); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		if refusedCommit(err) {
			return fmt.Errorf("%w: %w", errNotCommitted, err)
		}
		return fmt.Errorf("%w: %w", ErrOutcomeUnknown, err)
	}
	return nil
}

// States of PostgreSQL (https://www.postgresql.org/docs/current/errcodes-appendix.html), and codes of SQLite
// (https://www.sqlite.org/rescode.html).
const (
	serializationFailure = "40001"
	deadlockDetected     = "40P01"
	inFailedTransaction  = "25P02"
	completionUnknown    = "40003"
	sqliteError          = 1
	sqliteBusy           = 5
	sqliteLocked         = 6
	sqliteConstraint     = 19
)

// refusedCommit tells whether the database has answered that it did not commit. Class 08 is about the connection, and class 57
// an operator who ended it.
func refusedCommit(err error) bool {
	state := sqlState(err)
	if state == "" {
		return sqliteCode(err) == sqliteConstraint
	}
	return state != completionUnknown && !strings.HasPrefix(state, "08") && !strings.HasPrefix(state, "57")
}

// sqlState returns the SQLSTATE of an error, as drivers of PostgreSQL tell it; "" if it has none.
func sqlState(err error) string {
	var e interface{ SQLState() string }
	if errors.As(err, &e) {
		return e.SQLState()
	}
	return ""
}

// gaveWay tells whether the database ended a transaction because of another one, or found no room for it beside another:
// it may be run again at once.
func gaveWay(err error) bool {
	if state := sqlState(err); state == serializationFailure || state == deadlockDetected {
		return true
	}
	code := sqliteCode(err)
	return code == sqliteBusy || code == sqliteLocked || errors.Is(err, errRaced)
}

// sqliteCode returns the primary result code of an error of SQLite, as its drivers tell it; 0 if it has none.
func sqliteCode(err error) int {
	var e interface{ Code() int }
	if errors.As(err, &e) {
		return e.Code() & 0xff // the rest is the extension
	}
	return 0
}
