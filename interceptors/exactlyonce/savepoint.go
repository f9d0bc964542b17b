package exactlyonce

import (
	"context"
	"errors"
	"fmt"
)

// The savepoint around what a handler does. A refusal undoes what it did, and not the proof; and that the savepoint is still
// there when the handler has returned says that the transaction is.
//
// SQLite rolls back all of a transaction when a statement in it that writes is interrupted, as by a context of the handler's own,
// or when the disk is full (https://www.sqlite.org/lang_transaction.html, "Response To Errors Within A Transaction"). The
// connection is in autocommit then, and database/sql does not know: a handler that goes on after such an error writes for good,
// statement by statement.

// errOver is what a transaction ends with that was over before its handler was.
var errOver = errors.New("the transaction was over before the handler was, so some of what it did may be undone, and some of it committed: " +
	"a handler returns after a statement that failed, and neither commits nor rolls back")

func (t *transaction) save(ctx context.Context) error {
	_, err := t.tx.ExecContext(ctx, "SAVEPOINT rolecall_handler")
	return err
}

// release keeps what was done since save. errOver, or inFailedTransaction of PostgreSQL, where that is not to be had.
func (t *transaction) release(ctx context.Context) error {
	_, err := t.tx.ExecContext(ctx, "RELEASE SAVEPOINT rolecall_handler")
	return overOr(err)
}

// rollBack undoes what was done since save. PostgreSQL has it after a failed statement too.
func (t *transaction) rollBack(ctx context.Context) error {
	_, err := t.tx.ExecContext(ctx, "ROLLBACK TO SAVEPOINT rolecall_handler")
	return overOr(err)
}

// overOr tells whether the savepoint is missing: SQLSTATE 3B001 and 25P01, and the general error of SQLite, which has no other
// reason here.
func overOr(err error) error {
	state := sqlState(err)
	if state == "3B001" || state == "25P01" || sqliteCode(err) == sqliteError {
		return fmt.Errorf("%w: %w", errOver, err)
	}
	return err
}

// inSavepoint runs what a handler does in the transaction, and sees that it is still there afterwards. nil does nothing.
func (t *transaction) inSavepoint(ctx context.Context, f func(context.Context) error) error {
	if f == nil {
		return nil
	}
	if err := t.save(ctx); err != nil {
		return err
	}
	if err := f(ctx); err != nil {
		return t.undo(ctx, err)
	}
	return t.release(ctx)
}
