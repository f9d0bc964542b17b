package tokens

import (
	"context"
	"errors"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	tokensv1 "example.com/rolecall/gen/tokens/v1"
	"example.com/rolecall/internal/store"
)

// forgetSlack is how much longer than any token lives, those of a configuration that was in force a moment ago included, its
// revocation is remembered: for the leeway of verifiers, a minute at
// most, and for the time that a token may take to be signed after its claims were decided.
const forgetSlack = 2 * time.Minute

// revocation is a row: a session, or all generations of a user below one.
type revocation struct {
	sequence   int64
	session    string // or
	username   string
	generation int64
	forget     time.Time
}

func (r revocation) message(epoch string) *tokensv1.WatchRevocationsResponse {
	m := &tokensv1.WatchRevocationsResponse{Epoch: epoch, Sequence: r.sequence}
	if r.session != "" {
		m.Change = &tokensv1.WatchRevocationsResponse_Session{Session: &tokensv1.SessionRevoked{
			Session: r.session, ForgetAfter: timestamppb.New(r.forget),
		}}
		return m
	}
	m.Change = &tokensv1.WatchRevocationsResponse_Generation{Generation: &tokensv1.GenerationRaised{
		Username: r.username, Generation: r.generation, ForgetAfter: timestamppb.New(r.forget),
	}}
	return m
}

// append adds a revocation as the next of all.
func (t tables) append(tx *store.Tx, r revocation, now time.Time) error {
	if err := tx.QueryRow("UPDATE state SET sequence = sequence + 1 RETURNING sequence").Scan(&r.sequence); err != nil {
		return err
	}
	return tx.Insert("revocations (sequence, session, username, generation, forget_us)", [][]any{{
		r.sequence, r.session, r.username, r.generation, store.Micros(now.Add(maxAccessLife + forgetSlack)),
	}})
}

var errKnown = errors.New("the revocation is known")

// raised adds that the generation of a user has been raised, unless that is known. Several replicas hear of it.
func (t tables) raised(ctx context.Context, username string, generation int64, now time.Time) error {
	err := t.db.Write(ctx, func(tx *store.Tx) error {
		// First, because it locks the sequence: nobody adds between the question and the answer.
		if err := t.append(tx, revocation{username: username, generation: generation}, now); err != nil {
			return err
		}
		var rows int
		if err := tx.QueryRow("SELECT COUNT(*) FROM revocations WHERE username = $1 AND generation >= $2", username, generation).Scan(&rows); err != nil {
			return err
		}
		if rows > 1 {
			return errKnown // undoes it
		}
		return nil
	})
	if errors.Is(err, errKnown) {
		return nil
	}
	t.changed.Ring()
	return err
}

// position is how far the revocations and the keys have come. The epoch is that of the database: numbers of another mean
// nothing.
type position struct {
	epoch          string
	sequence, keys int64
}

func (t tables) position(ctx context.Context) (p position, err error) {
	err = t.db.QueryRow(ctx, "SELECT epoch, sequence, key_version FROM state").Scan(&p.epoch, &p.sequence, &p.keys)
	return p, err
}

// revokedAfter returns at most limit revocations after a sequence number that are not to be forgotten yet.
func (t tables) revokedAfter(ctx context.Context, sequence int64, now time.Time, limit int) ([]revocation, error) {
	rows, err := t.db.Query(ctx, "SELECT sequence, session, username, generation, forget_us FROM revocations"+
		" WHERE sequence > $1 AND forget_us > $2 ORDER BY sequence LIMIT $3", sequence, store.Micros(now), limit)
	if err != nil {
		return nil, err
	}
	defer rows.Close() //nolint:errcheck // rows.Err tells
	var found []revocation
	for rows.Next() {
		var r revocation
		var forget int64
		if err := rows.Scan(&r.sequence, &r.session, &r.username, &r.generation, &forget); err != nil {
			return nil, err
		}
		r.forget = store.Time(forget)
		found = append(found, r)
	}
	return found, rows.Err()
}
