package users

import (
	"context"
	"errors"

	usersv1 "example.com/rolecall/gen/users/v1"
	"example.com/rolecall/interceptors"
	"example.com/rolecall/interceptors/exactlyonce"
	"example.com/rolecall/internal/refusal"
	"example.com/rolecall/internal/store"
)

const (
	minPassword = 8
	maxPassword = 256
)

// VerifyPassword tells whether a password is the user's. An unknown user costs the same one hash run as a wrong password,
// and gets the same answer. Attempts are bounded for each username, known or not: see attempts.
func (s *Service) VerifyPassword(ctx context.Context, req *usersv1.VerifyPasswordRequest) (*usersv1.VerifyPasswordResponse, error) {
	if len(req.GetPassword()) > maxPassword {
		return nil, interceptors.InvalidField("password", "must have 256 bytes at most")
	}
	name := req.GetUsername()
	if wait, ok := s.attempts.take(name, s.now().Sub(s.began)); !ok {
		interceptors.CallerFrom(ctx).Denied(refusal.RateLimited, "too many wrong passwords for one username")
		return nil, limited(ctx, "too many wrong passwords for this username", wait)
	}
	user, password, err := s.credentials(ctx, name)
	if err != nil {
		s.attempts.giveBack(name)
		return nil, s.status(ctx, "verify a password", err)
	}
	why := ""
	switch {
	case user.username == "":
		why = "there is no such user"
	case !user.mayLogIn():
		why = "the user is disabled"
	case password == "":
		why = "the user has no password"
	}
	if password == "" {
		password = s.cost.decoy()
	}
	matches := false
	if passed := s.hashing.pass(ctx, func() { matches, err = password.matches(req.GetPassword()) }); passed != nil {
		s.attempts.giveBack(name)
		return nil, s.status(ctx, "verify a password", passed)
	}
	if err != nil {
		return nil, s.status(ctx, "verify the password of "+user.username, err)
	}
	if why == "" && !matches {
		why = "the password is wrong"
	}
	if why != "" {
		recordRefused(ctx, user.username, why)
		return nil, loginRefused()
	}
	s.attempts.giveBack(name)
	return &usersv1.VerifyPasswordResponse{Subject: user.subject()}, nil
}

// credentials reads a user with the password. An unknown user is the zero user without a password.
func (s *Service) credentials(ctx context.Context, name string) (user, phc, error) {
	if !username.MatchString(name) {
		return user{}, "", nil
	}
	u, password, err := s.users.login(ctx, name)
	if errors.Is(err, errNotFound) {
		return user{}, "", nil
	}
	return u, password, err
}

// SetPassword replaces a user's password and ends all sessions.
func (s *Service) SetPassword(ctx context.Context, req *usersv1.SetPasswordRequest) (*usersv1.SetPasswordResponse, error) {
	if err := checkUsername("username", req.GetUsername()); err != nil {
		return nil, err
	}
	password, err := s.hash(ctx, "set the password of "+req.GetUsername(), req.GetPassword())
	if err != nil {
		return nil, err
	}
	_, err = s.users.change(ctx, req.GetUsername(), func(tx *store.Tx, u *user) (ending, error) {
		u.updated = s.now()
		u.raised = u.updated
		_, err := tx.Exec("UPDATE users SET password = $1 WHERE username = $2", string(password), u.username)
		return allSessions, err
	})
	if err != nil {
		return nil, s.status(ctx, "set the password of "+req.GetUsername(), err)
	}
	return &usersv1.SetPasswordResponse{}, nil
}

// hash checks a new password and makes its hash, which takes a tenth of a second and may have to wait for its turn: outside of
// the transaction of the request, if there is one. The error is what the caller is told.
func (s *Service) hash(ctx context.Context, doing, password string) (phc, error) {
	if n := len(password); n < minPassword || n > maxPassword {
		return "", interceptors.InvalidField("password", "must have 8 to 256 bytes")
	}
	return exactlyonce.Beforehand(ctx, func(ctx context.Context) (hash phc, err error) {
		if err := s.hashing.pass(ctx, func() { hash = s.cost.hash(password) }); err != nil {
			return "", s.status(ctx, doing, err)
		}
		return hash, nil
	})
}
