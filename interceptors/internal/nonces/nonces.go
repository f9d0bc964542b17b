// Package nonces burns nonces in a database, so that several replicas share one window, and so that a nonce can be burned
// in the transaction of what it was for. SQLite and PostgreSQL, over database/sql.
package nonces

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"time"
)

// Dialect is what the SQL is written for.
type Dialect uint8

// The dialects.
const (
	SQLite Dialect = iota + 1
	PostgreSQL
)

// Nonce is what nobody may use twice: a value of a signer's. The same value of another signer is another nonce.
type Nonce struct {
	Signer  string
	Value   string
	Expires time.Time // from then on no verifier takes it for fresh, leeway included
}

// Result is what came of burning a nonce.
type Result uint8

// The results. The zero value is none of them.
const (
	Burned   Result = iota + 1
	Replayed        // it was burned before
	Expired         // it is as old as what was pruned, so that nobody can tell whether it was burned before
)

// Querier is a *sql.Tx, *sql.Conn or *sql.DB.
type Querier interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// readThrough reads through which expiry nonces were pruned, and when that was written down.
const readThrough = "SELECT through_us, raised_us FROM rolecall_nonces_pruned WHERE only_row = 1"

// burn inserts nothing where the row of what was pruned is missing: it fails closed. PostgreSQL makes who finds a row that
// is not committed wait for it.
const burn = `INSERT INTO rolecall_nonces (nonce, expires_us)
	SELECT CAST($1 AS TEXT), CAST($2 AS BIGINT) WHERE $2 > (SELECT through_us FROM rolecall_nonces_pruned WHERE only_row = 1)
	ON CONFLICT (nonce) DO NOTHING`

// Burn uses the nonce up. In a transaction it is burned when that is committed, and not before. With an error nobody may
// take it for burned.
func Burn(ctx context.Context, q Querier, n Nonce) (Result, error) {
	expires := n.Expires.UnixMicro()
	done, err := q.ExecContext(ctx, burn, n.sum(), expires)
	if err != nil {
		return 0, fmt.Errorf("burn nonce: %w", err)
	}
	added, err := done.RowsAffected()
	if err != nil {
		return 0, fmt.Errorf("burn nonce: %w", err)
	}
	if added == 1 {
		return Burned, nil
	}
	var through, raised int64
	if err := q.QueryRowContext(ctx, readThrough).Scan(&through, &raised); err != nil {
		return 0, fmt.Errorf("read through when nonces were pruned: %w", err)
	}
	if expires <= through {
		return Expired, nil
	}
	return Replayed, nil
}

// sum is what is stored: as short for a long nonce as for a short one. The signer's length keeps the two apart.
func (n Nonce) sum() string {
	text := binary.BigEndian.AppendUint32(nil, uint32(len(n.Signer)))
	sum := sha256.Sum256(append(append(text, n.Signer...), n.Value...))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}
