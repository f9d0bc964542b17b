package tokens

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"time"

	"example.com/rolecall/internal/store"
	"example.com/rolecall/internal/watch"
)

// session is a row: a family of refresh tokens.
type session struct {
	id, username, clientID string
	all                    bool     // the tokens carry all roles of the user
	subset                 []string // else these, as far as the user holds them
	generation             int64    // the user's at login
	authenticated          time.Time
	idleEnds, ends         time.Time
	revoked                bool
	current                string // digest of the refresh token that is to be used next
}

// expires returns when the session ends if nobody refreshes it.
func (s session) expires() time.Time {
	if s.idleEnds.Before(s.ends) {
		return s.idleEnds
	}
	return s.ends
}

// tables are the database of the service, with the times that its rules need.
type tables struct {
	db     *store.DB
	config Config
	// changed is rung after each revocation and change of keys, owed after each raise that users is to be told of.
	changed, owed *watch.Bell
	epochs        *watch.Epochs
}

func newTables(db *store.DB, config Config) tables {
	changed := watch.NewBell()
	return tables{db: db, config: config, changed: changed, owed: watch.NewBell(), epochs: watch.NewEpochs(db, "state", changed)}
}

const sessionColumns = "s.session, s.username, s.client_id, s.role_subset, s.generation, s.auth_us, s.idle_ends_us, s.ends_us, s.revoked_us, s.current_token"

var errUnknown = errors.New("no such session")

func scanSession(row interface{ Scan(...any) error }, more ...any) (session, error) {
	var s session
	var subset string
	var authenticated, idleEnds, ends, revoked int64
	err := row.Scan(append([]any{&s.id, &s.username, &s.clientID, &subset, &s.generation, &authenticated, &idleEnds, &ends, &revoked, &s.current}, more...)...)
	if errors.Is(err, sql.ErrNoRows) {
		return session{}, errUnknown
	}
	if err != nil {
		return session{}, err
	}
	s.authenticated, s.idleEnds, s.ends, s.revoked = store.Time(authenticated), store.Time(idleEnds), store.Time(ends), revoked != 0
	if s.all = subset == ""; !s.all {
		err = json.Unmarshal([]byte(subset), &s.subset)
	}
	return s, err
}

func (s session) subsetColumn() string {
	if s.all {
		return ""
	}
	if len(s.subset) == 0 {
		return "[]"
	}
	text, _ := json.Marshal(s.subset) // strings always encode
	return string(text)
}

// maxSessions is how many sessions a user has at once. One more ends the one that was used least recently.
const maxSessions = 100

// add stores a session that begins now with its first refresh token.
func (t tables) add(ctx context.Context, s session, first refresh, now time.Time) (session, error) {
	s.idleEnds, s.ends, s.current = now.Add(t.config.IdleLife), now.Add(t.config.SessionLife), first.digest()
	ended := 0
	err := t.db.Write(ctx, func(tx *store.Tx) error {
		old, err := t.liveSessions(tx, s.username, now, maxSessions-1)
		if err != nil {
			return err
		}
		ended = len(old)
		if err := t.revokeSessions(tx, old, now); err != nil {
			return err
		}
		return tx.Insert("sessions (locator, session, username, client_id, role_subset, generation, auth_us, refreshed_us, idle_ends_us, ends_us, current_token)", [][]any{{
			first.locator(), s.id, s.username, s.clientID, s.subsetColumn(), s.generation, store.Micros(s.authenticated), store.Micros(now),
			store.Micros(s.idleEnds), store.Micros(s.ends), s.current,
		}})
	})
	if ended > 0 {
		t.changed.Ring()
	}
	return s, err
}

// liveSessions returns the sessions of a user that go on, but for the keep that were used last, for the transaction alone.
func (t tables) liveSessions(tx *store.Tx, username string, now time.Time, keep int) ([]string, error) {
	rows, err := tx.Query("SELECT session FROM sessions WHERE session IN (SELECT session FROM sessions WHERE username = $1 AND revoked_us = 0"+
		" AND idle_ends_us > $2 AND ends_us > $2 ORDER BY refreshed_us DESC, session LIMIT $3 OFFSET $4) ORDER BY session"+tx.ForUpdate(),
		username, store.Micros(now), 10*maxSessions, keep)
	if err != nil {
		return nil, err
	}
	defer rows.Close() //nolint:errcheck // rows.Err tells
	var ids []string
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, rows.Err()
}

// revokeSessions ends sessions that have not ended yet, and has verifiers told of each.
func (t tables) revokeSessions(tx *store.Tx, ids []string, now time.Time) error {
	for _, id := range ids {
		n, err := tx.Exec("UPDATE sessions SET revoked_us = $1 WHERE session = $2 AND revoked_us = 0", store.Micros(now), id)
		if err != nil {
			return err
		}
		if n == 0 {
			continue
		}
		if err := t.append(tx, revocation{session: id}, now); err != nil {
			return err
		}
	}
	return nil
}

// revokeSession ends one session.
func (t tables) revokeSession(ctx context.Context, id string, now time.Time) error {
	defer t.changed.Ring()
	return t.db.Write(ctx, func(tx *store.Tx) error { return t.revokeSessions(tx, []string{id}, now) })
}

// revokeUser ends all sessions of a user, and has users raise the generation.
func (t tables) revokeUser(ctx context.Context, username string, now time.Time) error {
	defer t.changed.Ring()
	defer t.owed.Ring()
	return t.db.Write(ctx, func(tx *store.Tx) error { return t.endAll(tx, username, now) })
}

func (t tables) endAll(tx *store.Tx, username string, now time.Time) error {
	ids, err := t.liveSessions(tx, username, now, 0)
	if err != nil {
		return err
	}
	if err := t.revokeSessions(tx, ids, now); err != nil {
		return err
	}
	return owe(tx, username)
}

// purgeBatch is how many rows of a table one transaction of a purge removes at most.
const purgeBatch = 1000

// purge removes what has ended and what need not be remembered any more, in transactions that hold up nobody for long.
func (t tables) purge(ctx context.Context, now time.Time) error {
	for more := true; more; {
		if err := t.purgeSome(ctx, now, &more); err != nil {
			return err
		}
	}
	return nil
}

func (t tables) purgeSome(ctx context.Context, now time.Time, more *bool) error {
	return t.db.Write(ctx, func(tx *store.Tx) error {
		*more = false
		for _, p := range []struct {
			table, key, where string
			before            time.Time
		}{
			{"sessions", "session", "idle_ends_us < $1 OR ends_us < $1", now},
			{"sessions", "session", "revoked_us > 0 AND revoked_us < $1", now.Add(-24 * time.Hour)},
			{"spent", "token", "used_us < $1", now.Add(-t.config.Grace - usersTimeout)},
			{"revocations", "sequence", "forget_us < $1", now},
			{"signing_keys", "kid", "ends_us < $1", now},
		} {
			query := "DELETE FROM " + p.table + " WHERE " + p.key + " IN (SELECT " + p.key + " FROM " + p.table + " WHERE " + p.where + " LIMIT $2)"
			n, err := tx.Exec(query, store.Micros(p.before), purgeBatch)
			if err != nil {
				return err
			}
			*more = *more || n >= purgeBatch
		}
		return nil
	})
}
