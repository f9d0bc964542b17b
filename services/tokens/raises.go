package tokens

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	usersv1 "example.com/rolecall/gen/users/v1"
	"example.com/rolecall/internal/store"
)

// raiseRetry is how soon users is asked again to raise a generation.
const raiseRetry = time.Second

// owe notes that the generation of a user is to be raised. It is done when deliver has been told so by users. No two debts have
// the same version, so that none is taken for one that was settled before.
func owe(tx *store.Tx, username string) error {
	_, err := tx.Exec("INSERT INTO raises (username, generation, version) VALUES ($1, -1, $2)"+
		" ON CONFLICT (username) DO UPDATE SET generation = -1, version = excluded.version", username, rand.Int64())
	return err
}

// debt is a raise that users is still to be told of.
type debt struct {
	username            string
	generation, version int64
}

// debts returns at most limit of them, of users whose names come after the given one.
func (t tables) debts(ctx context.Context, after string, limit int) ([]debt, error) {
	rows, err := t.db.Query(ctx, "SELECT username, generation, version FROM raises WHERE username > $1 ORDER BY username LIMIT $2", after, limit)
	if err != nil {
		return nil, err
	}
	defer rows.Close() //nolint:errcheck // rows.Err tells
	var found []debt
	for rows.Next() {
		var d debt
		if err := rows.Scan(&d.username, &d.generation, &d.version); err != nil {
			return nil, err
		}
		found = append(found, d)
	}
	return found, rows.Err()
}

func (t tables) debt(ctx context.Context, username string) (debt, error) {
	d := debt{username: username}
	err := t.db.QueryRow(ctx, "SELECT generation, version FROM raises WHERE username = $1", username).Scan(&d.generation, &d.version)
	return d, err
}

// fix stores which generation is to end, and returns what is owed then. That is another generation where another replica has
// stored it, whose raise is not to be followed by one more, and still none where another raise has been asked for since: that one
// may be for tokens of a later generation. sql.ErrNoRows: nothing is owed any more.
func (t tables) fix(ctx context.Context, d debt) (owed debt, err error) {
	err = t.db.Write(ctx, func(tx *store.Tx) error {
		if _, err := tx.Exec("UPDATE raises SET generation = $1 WHERE username = $2 AND version = $3 AND generation < 0", d.generation, d.username, d.version); err != nil {
			return err
		}
		owed = debt{username: d.username}
		return tx.QueryRow("SELECT generation, version FROM raises WHERE username = $1", d.username).Scan(&owed.generation, &owed.version)
	})
	return owed, err
}

func (t tables) settle(ctx context.Context, d debt) error {
	return t.db.Write(ctx, func(tx *store.Tx) error {
		_, err := tx.Exec("DELETE FROM raises WHERE username = $1 AND version = $2", d.username, d.version)
		return err
	})
}

// deliver has users raise a generation, and tells verifiers; without an error that is done, by whomever. Whatever breaks it off, it
// can be done again, by another replica too: the generation that is to end is stored before users is asked, and users raises it
// once.
func (s *Service) deliver(ctx context.Context, d debt) error {
	asked, cancel := context.WithTimeout(ctx, usersTimeout)
	defer cancel()
	for d.generation < 0 {
		answer, err := s.users.GetTokenSubject(asked, &usersv1.GetTokenSubjectRequest{Username: d.username})
		if status.Code(err) == codes.NotFound {
			return s.tables.settle(ctx, d) // a user who is not there has no tokens
		}
		if err != nil {
			return err
		}
		d.generation = answer.GetSubject().GetGeneration()
		d, err = s.tables.fix(ctx, d)
		if errors.Is(err, sql.ErrNoRows) {
			return nil // it has been delivered meanwhile
		}
		if err != nil {
			return err
		}
	}
	answer, err := s.users.RaiseTokenGeneration(asked, &usersv1.RaiseTokenGenerationRequest{Username: d.username, Generation: d.generation})
	if status.Code(err) == codes.NotFound {
		return s.tables.settle(ctx, d) // nothing to raise: users was put back from a copy that does not have the user
	}
	if err != nil {
		return err
	}
	if err := s.tables.raised(ctx, d.username, answer.GetGeneration(), s.now()); err != nil {
		return err
	}
	return s.tables.settle(ctx, d)
}

// deliverAll delivers what is owed, until ctx ends.
func (s *Service) deliverAll(ctx context.Context) {
	retry := time.NewTicker(raiseRetry)
	defer retry.Stop()
	for failing := false; ; {
		owed := s.tables.owed.Next()
		err := s.deliverOwed(ctx)
		if err != nil && !failing && ctx.Err() == nil {
			s.log.LogAttrs(ctx, slog.LevelWarn, "generations could not be raised yet; trying again", slog.Any("error", err))
		}
		failing = err != nil
		select {
		case <-owed:
		case <-retry.C:
		case <-ctx.Done():
			return
		}
	}
}

// debtBatch is how many debts are read at once.
const debtBatch = 100

// deliverOwed delivers once all that is owed, and returns the last error. One that cannot be delivered holds up no other.
func (s *Service) deliverOwed(ctx context.Context) (last error) {
	for after := ""; ; {
		debts, err := s.tables.debts(ctx, after, debtBatch)
		if err != nil {
			return err
		}
		for _, d := range debts {
			if err := s.deliver(ctx, d); err != nil {
				last = fmt.Errorf("user %s: %w", d.username, err)
				if code := status.Code(err); code == codes.Unavailable || code == codes.DeadlineExceeded {
					return last // so will the others
				}
			}
			after = d.username
		}
		if len(debts) < debtBatch {
			return last
		}
	}
}
