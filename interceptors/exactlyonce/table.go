package exactlyonce

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"example.com/rolecall/interceptors/internal/nonces"
)

// States of a row.
const (
	running = "RUNNING" // a saga that has begun
	done    = "DONE"    // it took effect; outcome is the response
	refused = "REFUSED" // it did not, and never will; outcome is a google.rpc.Status
)

// row is a request as it is stored. Times are microseconds since 1970.
type row struct {
	Key
	sum     []byte
	payload []byte // empty: whatever the payload, as Cancel stores it
	state   string
	outcome []byte // empty while it runs
	created time.Time
	stored  time.Time     // when the outcome was; of a running saga: as created
	request []byte        // of a running saga, to go on with
	lease   time.Duration // of a running saga: for how long from now nobody takes it over
	fence   int64         // of a saga: raised by each who takes it over; who has an older one writes no more
}

// createTables makes the tables that are not there.
func createTables(ctx context.Context, t *transaction) error {
	if err := nonces.Prepare(ctx, t.tx, t.dialect,
		nonces.Relation{Name: "rolecall_requests", Create: `CREATE TABLE rolecall_requests (
			key BYTEA NOT NULL PRIMARY KEY,
			method TEXT NOT NULL, peer TEXT NOT NULL, signer TEXT NOT NULL, on_behalf_of TEXT NOT NULL, request_id TEXT NOT NULL,
			payload BYTEA, state TEXT NOT NULL, outcome BYTEA,
			created_us BIGINT NOT NULL, stored_us BIGINT NOT NULL, expires_us BIGINT NOT NULL,
			request BYTEA, lease_us BIGINT NOT NULL, fence BIGINT NOT NULL)`},
		index("expires", "(expires_us)"),
		index("caller", "(peer, on_behalf_of)"),
		index("running", "(lease_us) WHERE state = 'RUNNING'"),
		index("running_caller", "(peer, on_behalf_of) WHERE state = 'RUNNING'"),
		nonces.Relation{Name: "rolecall_requests_pruned", Create: `CREATE TABLE rolecall_requests_pruned (
			only_row INTEGER NOT NULL PRIMARY KEY CHECK (only_row = 1), through_us BIGINT NOT NULL)`},
	); err != nil {
		return err
	}
	if _, err := t.tx.ExecContext(ctx, "INSERT INTO rolecall_requests_pruned (only_row, through_us) VALUES (1, 0) ON CONFLICT (only_row) DO NOTHING"); err != nil {
		return fmt.Errorf("create the mark of requests: %w", err)
	}
	return nonces.Create(ctx, t.tx, t.dialect)
}

func index(name, on string) nonces.Relation {
	name = "rolecall_requests_" + name
	return nonces.Relation{Name: name, Create: "CREATE INDEX " + name + " ON rolecall_requests " + on}
}

// lock is what the transaction holds alone until it ends. Without waiting, so that a repetition costs no connection while
// the first one runs. SQLite's transactions are alone as it is.
func (t *transaction) lock(ctx context.Context, sum [sha256.Size]byte) (got bool, err error) {
	if t.dialect != DialectPostgreSQL {
		return true, nil
	}
	err = t.tx.QueryRowContext(ctx, "SELECT pg_try_advisory_xact_lock($1)", lockNumber(sum)).Scan(&got)
	return got, err
}

// lockNumber has 64 bits, for a database that may hold other locks: no two keys have the same one by chance.
func lockNumber(sum [sha256.Size]byte) (number int64) {
	for _, b := range sum[:8] {
		number = number<<8 | int64(b)
	}
	return number
}

// clock is the time for leases, in microseconds, by the clock of the database: those of replicas may differ by more than a
// lease. In PostgreSQL it goes on within a transaction, and in SQLite it has milliseconds.
func (t *transaction) clock() string {
	if t.dialect == DialectPostgreSQL {
		return "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT)"
	}
	return "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER) * 1000"
}

// find reads the row of a request; nil if there is none. Until it is pruned it stands, whatever the clock says.
func (t *transaction) find(ctx context.Context, sum [sha256.Size]byte) (*row, error) {
	var found row
	var stored int64
	err := t.tx.QueryRowContext(ctx, "SELECT payload, state, outcome, stored_us FROM rolecall_requests WHERE key = $1", sum[:]).
		Scan(&found.payload, &found.state, &found.outcome, &stored)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read what is stored of the request: %w", err)
	}
	found.stored = time.UnixMicro(stored)
	return &found, nil
}

// insert stores a row. errRaced if there is one already.
func (t *transaction) insert(ctx context.Context, new *row, expires time.Time) error {
	added, err := t.change(ctx, `INSERT INTO rolecall_requests (key, method, peer, signer, on_behalf_of, request_id,
			payload, state, outcome, created_us, stored_us, expires_us, request, lease_us, fence)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, `+t.clock()+` + $14, $15)
		ON CONFLICT (key) DO NOTHING`,
		new.sum, new.Method, new.Peer, new.Signer, new.User, new.RequestID,
		new.payload, new.state, new.outcome, new.created.UnixMicro(), new.stored.UnixMicro(), expires.UnixMicro(),
		new.request, new.lease.Microseconds(), new.fence)
	if err != nil {
		return fmt.Errorf("store the request: %w", err)
	}
	if !added {
		return errRaced
	}
	return nil
}

// change runs a statement and tells whether it changed a row.
func (t *transaction) change(ctx context.Context, query string, args ...any) (bool, error) {
	result, err := t.tx.ExecContext(ctx, query, args...)
	if err != nil {
		return false, err
	}
	n, err := result.RowsAffected()
	return n > 0, err
}
