package exactlyonce_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"testing"
	"testing/synctest"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"example.com/rolecall/interceptors/exactlyonce"
	"example.com/rolecall/internal/store/storetest"
)

// scripted is a database of one transaction, of which a test sees how it ends.
type scripted struct {
	driver.Conn
	commit             func(begin context.Context) error
	begin              context.Context
	commits, rollbacks int
}

// Connect implements driver.Connector.
func (s *scripted) Connect(context.Context) (driver.Conn, error) { return s, nil }

// Driver implements driver.Connector.
func (s *scripted) Driver() driver.Driver { return nil }

// BeginTx implements driver.ConnBeginTx. Drivers may use the context for the commit too, as pgx does.
func (s *scripted) BeginTx(ctx context.Context, _ driver.TxOptions) (driver.Tx, error) {
	s.begin = ctx
	return s, nil
}

// Commit implements driver.Tx.
func (s *scripted) Commit() error {
	s.commits++
	return s.commit(s.begin)
}

// Rollback implements driver.Tx.
func (s *scripted) Rollback() error {
	s.rollbacks++
	return nil
}

// Close implements driver.Conn.
func (s *scripted) Close() error { return nil }

func write(t *testing.T, ctx context.Context, s *scripted, f func(context.Context, *sql.Tx) error) error {
	t.Helper()
	db := sql.OpenDB(s)
	defer db.Close() //nolint:errcheck // there is nothing to be lost
	return exactlyonce.PostgreSQL(db).Write(ctx, f)
}

func nothing(context.Context, *sql.Tx) error { return nil }

func TestACallerWhoLeavesDoesNotInterruptTheCommit(t *testing.T) {
	t.Parallel()
	ctx, leave := context.WithCancel(t.Context())
	s := &scripted{commit: func(begin context.Context) error {
		leave()
		return begin.Err()
	}}
	if err := write(t, ctx, s, nothing); err != nil || s.commits != 1 || s.rollbacks != 0 {
		t.Errorf("got %v, %d commits, %d rollbacks, want one commit", err, s.commits, s.rollbacks)
	}
}

func TestWhatACallerLeavesBeforeTheCommitIsUndone(t *testing.T) {
	t.Parallel()
	ctx, leave := context.WithCancel(t.Context())
	s := &scripted{commit: func(context.Context) error { return nil }}
	err := write(t, ctx, s, func(context.Context, *sql.Tx) error {
		leave()
		return nil
	})
	if !errors.Is(err, context.Canceled) || errors.Is(err, exactlyonce.ErrOutcomeUnknown) || s.commits != 0 || s.rollbacks != 1 {
		t.Errorf("got %v, %d commits, %d rollbacks, want one rollback", err, s.commits, s.rollbacks)
	}
}

// sqlState is an error of PostgreSQL.
type sqlState string

func (s sqlState) Error() string    { return "SQLSTATE " + string(s) }
func (s sqlState) SQLState() string { return string(s) }

func TestWhatAnErrorOfACommitSaysOfItsOutcome(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		err     error
		unknown bool
	}{
		"a constraint that is checked at the end": {sqlState("23503"), false},
		"a serialization failure":                 {sqlState("40001"), false},
		"an operator ends the connection":         {sqlState("57P01"), true},
		"the connection fails":                    {sqlState("08006"), true},
		"completion unknown":                      {sqlState("40003"), true},
		"no answer":                               {errors.New("connection reset"), true},
	} {
		s := &scripted{commit: func(context.Context) error { return test.err }}
		err := write(t, t.Context(), s, nothing)
		if !errors.Is(err, test.err) || errors.Is(err, exactlyonce.ErrOutcomeUnknown) != test.unknown {
			t.Errorf("%s: got %v, want unknown: %v", name, err, test.unknown)
		}
	}
}

// crowded is a database that gives way each time.
type crowded struct {
	unopened
	attempts int
}

func (c *crowded) Write(context.Context, func(context.Context, *sql.Tx) error) error {
	c.attempts++
	return sqlState("40P01")
}

func TestARequestThatGivesWayAgainAndAgainIsAborted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		db := &crowded{}
		r := exactlyonce.New(exactlyonce.Config{DB: db})
		got := do(t.Context(), r, call(newID()), func(context.Context) (proto.Message, error) { return nil, nil })
		if got != (result{Code: codes.Aborted}) || db.attempts != 20 {
			t.Errorf("got %+v after %d attempts, want Aborted after 20", got, db.attempts)
		}
	})
}

func TestASagaWhoseTransactionGivesWayAgainAndAgainIsAborted(t *testing.T) {
	t.Parallel()
	giveWay := func(context.Context) error { return sqlState("40001") }
	for name, run := range map[string]func(context.Context) (proto.Message, error){
		"the first": func(ctx context.Context) (proto.Message, error) {
			return nil, exactlyonce.SagaFrom(ctx).Begin(ctx, giveWay)
		},
		"the last": func(ctx context.Context) (proto.Message, error) {
			saga := exactlyonce.SagaFrom(ctx)
			if err := saga.Begin(ctx, nil); err != nil {
				return nil, err
			}
			return nil, saga.Finish(ctx, response("x"), giveWay)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { // its twenty attempts are to fit into the time that an end may take
				k := newKit(t, storetest.SQLite(t))
				r := k.start(t, nil, never(t))
				idle(t, r)
				if got := do(t.Context(), r, call(newID()), run); got != (result{Code: codes.Aborted}) {
					t.Errorf("got %+v, want Aborted", got)
				}
			})
		})
	}
}
