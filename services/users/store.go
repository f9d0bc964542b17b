package users

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	usersv1 "example.com/rolecall/gen/users/v1"
	"example.com/rolecall/internal/store"
	"example.com/rolecall/internal/watch"
)

var (
	errTaken    = errors.New("username is taken")
	errNotFound = errors.New("no such user")
)

// user is a row without its password, which is read where one is verified and nowhere else.
type user struct {
	username, displayName, email string
	disabled                     bool
	created, updated             time.Time
	roles                        []string // sorted
	attributes                   string
	generation                   int64 // tokens of a lower one are refused
	sessionGeneration            int64 // sessions that began at a lower one are over
	raisedSequence               int64
	raised                       time.Time
}

func (u user) message() *usersv1.User {
	return &usersv1.User{
		Username:    u.username,
		DisplayName: u.displayName,
		Email:       u.email,
		Disabled:    u.disabled,
		CreateTime:  timestamppb.New(store.Time(store.Micros(u.created))),
		UpdateTime:  timestamppb.New(store.Time(store.Micros(u.updated))),
		Roles:       u.roles,
		Attributes:  u.attributes,
	}
}

// subject is what tokens may say of the user. One whose generations are used up gets none any more, like a disabled one.
func (u user) subject() *usersv1.TokenSubject {
	return &usersv1.TokenSubject{
		Username: u.username, Roles: u.roles, Attributes: u.attributes,
		Generation: u.generation, SessionGeneration: u.sessionGeneration, Disabled: !u.mayLogIn(),
	}
}

func (u user) mayLogIn() bool { return !u.disabled && u.generation < maxGeneration }

// users are the tables.
type users struct {
	db     *store.DB
	raised *watch.Bell // rung after each raise
	epochs *watch.Epochs
}

func newUsers(db *store.DB) users {
	raised := watch.NewBell()
	return users{db: db, raised: raised, epochs: watch.NewEpochs(db, "raises", raised)}
}

const columns = "username, display_name, email, disabled, created_us, updated_us, roles, attributes, generation, session_generation, raised_sequence, raised_us"

func scan(row interface{ Scan(...any) error }, more ...any) (user, error) {
	var u user
	var created, updated, raised int64
	var roles string
	err := row.Scan(append([]any{&u.username, &u.displayName, &u.email, &u.disabled, &created, &updated, &roles, &u.attributes,
		&u.generation, &u.sessionGeneration, &u.raisedSequence, &raised}, more...)...)
	if errors.Is(err, sql.ErrNoRows) {
		return user{}, errNotFound
	}
	if err != nil {
		return user{}, err
	}
	u.created, u.updated, u.raised = store.Time(created), store.Time(updated), store.Time(raised)
	return u, json.Unmarshal([]byte(roles), &u.roles)
}

func rolesColumn(roles []string) string {
	if len(roles) == 0 {
		return "[]"
	}
	text, _ := json.Marshal(roles) // strings always encode
	return string(text)
}

func (t users) add(ctx context.Context, u user, password phc) error {
	return t.db.Within(ctx, func(tx *store.Tx) error {
		added, err := tx.Exec("INSERT INTO users (username, display_name, email, disabled, created_us, updated_us, roles, attributes, password)"+
			" VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (username) DO NOTHING",
			u.username, u.displayName, u.email, u.disabled, store.Micros(u.created), store.Micros(u.updated), rolesColumn(u.roles), u.attributes, string(password))
		if err == nil && added == 0 {
			return errTaken
		}
		return err
	})
}

func (t users) get(ctx context.Context, username string) (user, error) {
	return scan(t.db.QueryRow(ctx, "SELECT "+columns+" FROM users WHERE username = $1", username))
}

// login returns a user with the password, which is empty for none.
func (t users) login(ctx context.Context, username string) (u user, password phc, err error) {
	u, err = scan(t.db.QueryRow(ctx, "SELECT "+columns+", password FROM users WHERE username = $1", username), &password)
	return u, password, err
}

// list returns at most limit users whose usernames come after the given one.
func (t users) list(ctx context.Context, after string, limit int) ([]user, error) {
	return t.query(ctx, "SELECT "+columns+" FROM users WHERE username > $1 ORDER BY username LIMIT $2", after, limit)
}

func (t users) query(ctx context.Context, query string, args ...any) ([]user, error) {
	rows, err := t.db.Query(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close() //nolint:errcheck // rows.Err tells
	var found []user
	for rows.Next() {
		u, err := scan(rows)
		if err != nil {
			return nil, err
		}
		found = append(found, u)
	}
	return found, rows.Err()
}

// change applies f to a user, alone with it, and ends what f says. Username and creation stay what they are.
func (t users) change(ctx context.Context, username string, f func(tx *store.Tx, u *user) (ending, error)) (user, error) {
	var u user
	var ends ending
	err := t.db.Within(ctx, func(tx *store.Tx) (err error) {
		if u, err = scan(tx.QueryRow("SELECT "+columns+" FROM users WHERE username = $1"+tx.ForUpdate(), username)); err != nil {
			return err
		}
		if ends, err = f(tx, &u); err != nil {
			return err
		}
		if ends != nothing {
			if err := raise(tx, &u, ends); err != nil {
				return err
			}
		}
		_, err = tx.Exec("UPDATE users SET display_name = $1, email = $2, disabled = $3, updated_us = $4, roles = $5, attributes = $6,"+
			" generation = $7, session_generation = $8, raised_sequence = $9, raised_us = $10 WHERE username = $11",
			u.displayName, u.email, u.disabled, store.Micros(u.updated), rolesColumn(u.roles), u.attributes,
			u.generation, u.sessionGeneration, u.raisedSequence, store.Micros(u.raised), u.username)
		return err
	})
	if ends != nothing { // also after an error: it may have been committed all the same
		t.raised.Ring()
	}
	return u, err
}
