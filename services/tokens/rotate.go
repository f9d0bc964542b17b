package tokens

import (
	"context"
	"errors"
	"time"

	"example.com/rolecall/internal/store"
)

// standing is what a refresh token is good for.
type standing uint8

const (
	unknown standing = iota // of no session that there is
	ended                   // of a session that was revoked or has expired
	current                 // to be used now
	graced                  // used a moment ago: its successor stands
	stolen                  // used before that
)

// maxRotations is how often a session may be refreshed within the grace: used tokens are kept.
const maxRotations = 32

// maxSkew is how far the use of a token may lie ahead of a call that presents it: the clocks of replicas differ, and a call may
// have begun before the use. Beyond that a clock was set back, and the grace would last until it has caught up.
const maxSkew = 30 * time.Second

var errTooOften = errors.New("a session is refreshed too often")

// held is a refresh token that was presented, and what is known of it.
type held struct {
	session   session
	standing  standing
	successor string // sealed; of one that is graced
}

const findToken = "SELECT " + sessionColumns + ", COALESCE(p.used_us, 0), COALESCE(p.successor, '')" +
	" FROM sessions s LEFT JOIN spent p ON p.session = s.session AND p.token = $2 WHERE s.locator = $1"

func (t tables) judge(row interface{ Scan(...any) error }, token refresh, now time.Time) (h held, err error) {
	var used int64
	h.session, err = scanSession(row, &used, &h.successor)
	switch {
	case errors.Is(err, errUnknown):
		return held{standing: unknown}, nil
	case err != nil:
		return held{}, err
	case h.session.revoked || !now.Before(h.session.expires()):
		h.standing = ended
	case h.session.current == token.digest():
		h.standing = current
	case used != 0 && now.Sub(store.Time(used)) <= t.config.Grace && store.Time(used).Sub(now) <= maxSkew:
		h.standing = graced
	default:
		h.standing = stolen
	}
	return h, nil
}

// look says what a token is good for, and changes nothing.
func (t tables) look(ctx context.Context, token refresh, now time.Time) (held, error) {
	return t.judge(t.db.QueryRow(ctx, findToken, token.locator(), token.digest()), token, now)
}

// rotate uses a token up, and returns its successor with the session as it is then, if the token is current or graced. Of
// all who present one token at once, one statement lets one through; the others get the same successor. One that is stolen
// ends all sessions of the user, in the same transaction.
func (t tables) rotate(ctx context.Context, token refresh, now time.Time) (h held, successor refresh, err error) {
	return t.rotateAt(ctx, token, now, now)
}

// rotateAt is rotate for a token that was presented before it is used: the grace is that of the use, for answers that are
// lost after it, and who presented the token within it is not late because users was slow.
func (t tables) rotateAt(ctx context.Context, token refresh, now, use time.Time) (h held, successor refresh, err error) {
	successor = token.next()
	sealed, err := token.seal(successor)
	if err != nil {
		return held{}, refresh{}, err
	}
	err = t.db.Write(ctx, func(tx *store.Tx) error {
		idleEnds := store.Micros(now.Add(t.config.IdleLife))
		n, err := tx.Exec("UPDATE sessions SET current_token = $1, refreshed_us = $2, idle_ends_us = CASE WHEN ends_us < $3 THEN ends_us ELSE $3 END"+
			" WHERE locator = $4 AND current_token = $5 AND revoked_us = 0 AND idle_ends_us > $2 AND ends_us > $2",
			successor.digest(), store.Micros(now), idleEnds, token.locator(), token.digest())
		if err != nil {
			return err
		}
		if h, err = t.judge(tx.QueryRow(findToken, token.locator(), token.digest()), token, now); err != nil {
			return err
		}
		switch {
		case n == 1:
			h.standing = current
			return t.spend(tx, h.session.id, token, sealed, use)
		case h.standing == stolen:
			return t.endAll(tx, h.session.username, now)
		case h.standing == current:
			return errors.New("a refresh token is current and could not be used")
		}
		return nil
	})
	switch {
	case err != nil:
		return held{}, refresh{}, err
	case h.standing == stolen:
		t.changed.Ring()
		t.owed.Ring()
	case h.standing == graced:
		if successor, err = token.open(h.successor); err != nil {
			return held{}, refresh{}, err
		}
	}
	return h, successor, nil
}

// spend keeps a used token for the grace, and for as long as users may let one wait that was presented within it.
func (t tables) spend(tx *store.Tx, session string, token refresh, sealed string, now time.Time) error {
	if _, err := tx.Exec("DELETE FROM spent WHERE session = $1 AND used_us < $2", session, store.Micros(now.Add(-t.config.Grace-usersTimeout))); err != nil {
		return err
	}
	var kept int
	if err := tx.QueryRow("SELECT COUNT(*) FROM spent WHERE session = $1 AND used_us >= $2", session, store.Micros(now.Add(-t.config.Grace))).Scan(&kept); err != nil {
		return err
	}
	if kept >= maxRotations {
		return errTooOften
	}
	return tx.Insert("spent (session, token, used_us, successor)", [][]any{{session, token.digest(), store.Micros(now), sealed}})
}
