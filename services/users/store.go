package users

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	usersv1 "example.com/rolecall/gen/users/v1"
	"example.com/rolecall/internal/store"
)

var (
	errTaken    = errors.New("username is taken")
	errNotFound = errors.New("no such user")
)

// user is a row.
type user struct {
	username, displayName, email string
	disabled                     bool
	created, updated             time.Time
}

func (u user) message() *usersv1.User {
	return &usersv1.User{
		Username:    u.username,
		DisplayName: u.displayName,
		Email:       u.email,
		Disabled:    u.disabled,
		CreateTime:  timestamppb.New(store.Time(store.Micros(u.created))),
		UpdateTime:  timestamppb.New(store.Time(store.Micros(u.updated))),
	}
}

// users is the table.
type users struct{ db *store.DB }

const columns = "username, display_name, email, disabled, created_us, updated_us"

func scan(row interface{ Scan(...any) error }) (user, error) {
	var u user
	var created, updated int64
	err := row.Scan(&u.username, &u.displayName, &u.email, &u.disabled, &created, &updated)
	if errors.Is(err, sql.ErrNoRows) {
		return user{}, errNotFound
	}
	u.created, u.updated = store.Time(created), store.Time(updated)
	return u, err
}

func (t users) add(ctx context.Context, u user) error {
	return t.db.Write(ctx, func(tx *store.Tx) error {
		added, err := tx.Exec("INSERT INTO users ("+columns+") VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (username) DO NOTHING",
			u.username, u.displayName, u.email, u.disabled, store.Micros(u.created), store.Micros(u.updated))
		if err == nil && added == 0 {
			return errTaken
		}
		return err
	})
}

func (t users) get(ctx context.Context, username string) (user, error) {
	return scan(t.db.QueryRow(ctx, "SELECT "+columns+" FROM users WHERE username = $1", username))
}

// list returns at most limit users whose usernames come after the given one.
func (t users) list(ctx context.Context, after string, limit int) ([]user, error) {
	rows, err := t.db.Query(ctx, "SELECT "+columns+" FROM users WHERE username > $1 ORDER BY username LIMIT $2", after, limit)
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

// change applies f to a user, alone with it. Username and creation stay what they are.
func (t users) change(ctx context.Context, username string, f func(*user)) (user, error) {
	var u user
	err := t.db.Write(ctx, func(tx *store.Tx) (err error) {
		if u, err = scan(tx.QueryRow("SELECT "+columns+" FROM users WHERE username = $1"+tx.ForUpdate(), username)); err != nil {
			return err
		}
		f(&u)
		_, err = tx.Exec("UPDATE users SET display_name = $1, email = $2, disabled = $3, updated_us = $4 WHERE username = $5",
			u.displayName, u.email, u.disabled, store.Micros(u.updated), u.username)
		return err
	})
	return u, err
}
