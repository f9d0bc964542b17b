package users

import (
	"context"
	"time"

	"example.com/rolecall/internal/store"
)

// maxGeneration is the largest integer that every JSON reader has exactly (RFC 8259 section 6). No token is given out at
// it: a user who has come that far gets none any more, so that there is no raise that would not end all that there are.
const maxGeneration = 1<<53 - 1

// ending is what a change of a user puts an end to.
type ending uint8

const (
	nothing     ending = iota
	tokens             // access tokens; who has a session gets new ones
	allSessions        // and sessions
)

// raise ends the tokens of a user whose row the transaction holds. raised is set by the caller.
func raise(tx *store.Tx, u *user, ends ending) error {
	if u.generation < maxGeneration {
		u.generation++
	}
	if ends == allSessions {
		u.sessionGeneration = u.generation
	}
	return tx.QueryRow("UPDATE raises SET sequence = sequence + 1 RETURNING sequence").Scan(&u.raisedSequence)
}

// position is how far the raises have come. The epoch is that of the database: numbers of another mean nothing.
type position struct {
	epoch    string
	sequence int64
}

func (t users) position(ctx context.Context) (p position, err error) {
	err = t.db.QueryRow(ctx, "SELECT epoch, sequence FROM raises").Scan(&p.epoch, &p.sequence)
	return p, err
}

// raisedAfter returns at most limit users that were raised after a sequence number and not before a time, in the order of
// their latest raises.
func (t users) raisedAfter(ctx context.Context, sequence int64, since time.Time, limit int) ([]user, error) {
	return t.query(ctx, "SELECT "+columns+" FROM users WHERE raised_sequence > $1 AND raised_us >= $2 ORDER BY raised_sequence LIMIT $3",
		sequence, store.Micros(since), limit)
}
