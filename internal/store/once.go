package store

import (
	"context"
	"database/sql"

	"example.com/rolecall/interceptors/exactlyonce"
)

// ExactlyOnce is the database as exactlyonce takes it: outcomes are stored beside the rows of the service.
func (db *DB) ExactlyOnce() exactlyonce.DB { return db.once }

// Join lets a transaction that was begun elsewhere run the SQL of the service. The context is for its statements.
func (db *DB) Join(ctx context.Context, tx *sql.Tx) *Tx {
	return &Tx{ctx: ctx, tx: tx, postgres: db.postgres}
}

// Within runs f in the open transaction of a handler of exactly_once, and where there is none in one of its own, as Write.
// In the former an error of f undoes nothing by itself: the handler returns it, and what it did is undone then.
func (db *DB) Within(ctx context.Context, f func(tx *Tx) error) error {
	if tx := exactlyonce.Tx(ctx); tx != nil {
		return f(db.Join(ctx, tx))
	}
	return db.Write(ctx, f)
}
