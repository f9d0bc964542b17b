// Package session keeps a user logged in at a terminal: the pair of tokens of one login in a file of mode 0600, refreshed
// when it is needed.
//
//	s := session.At(path, client)
//	fresh, err := s.Login(ctx, "dave", password, ownID, nil)
//	fresh, err = s.Fresh(ctx)        // from then on, also in other processes
//	err = s.Logout(ctx, false)
//
// A refresh token is good for one use, and whoever shows a used one is taken for a thief: processes that share a file take
// turns. One that is killed between its refresh and the writing of the file has lost nothing, as the next one shows the same
// token again; that is taken for what it is within ten seconds, and after them it ends all sessions of the user. One that is
// interrupted waits for the answer, and one that cannot write the file ends the session. It keeps no password.
package session

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	tokensv1 "example.com/rolecall/gen/tokens/v1"
)

// ErrNone says that nobody is logged in.
var ErrNone = errors.New("nobody is logged in here")

const (
	// margin is how much of an access token's life must be left for it to be given out: enough for a call. Of one that lives
	// less than twice as long, half.
	margin = time.Minute
	// callTimeout bounds a call that is made while other processes wait for their turn, which they do for five seconds.
	callTimeout = 4 * time.Second
	// sessionEnded is the reason of tokens for a refresh token that is not good any more.
	sessionEnded = "SESSION_ENDED"
)

// Session is the file of one login. Safe for concurrent use, also by several processes.
type Session struct {
	file   file
	client tokensv1.TokensServiceClient
	now    func() time.Time
}

// At returns the session in a file, which need not be there yet; the client is a workload's that may log users in.
func At(path string, client tokensv1.TokensServiceClient) *Session {
	return &Session{file: file(path), client: client, now: time.Now}
}

// Login logs a user in and keeps the session, in place of one that was there, which ends. The roles are those that the
// tokens are to carry; nil: all. Through is kept for whoever goes on with the session: Refresh takes the token from no other
// workload than Login was called by.
func (s *Session) Login(ctx context.Context, username, password, through string, roles []string) (Tokens, error) {
	request := &tokensv1.LoginRequest{Username: username, Password: password}
	if roles != nil {
		request.RoleSubset = &tokensv1.RoleSubset{Roles: roles}
	}
	answer, err := s.client.Login(ctx, request)
	if err != nil {
		return Tokens{}, fmt.Errorf("log in as %s: %w", username, told(err))
	}
	tokens := s.keep(answer.GetTokens(), through)
	err = s.file.locked(func() error {
		if before, err := s.file.readAnyway(); err == nil {
			// One that cannot be ended now ends by itself.
			_ = s.revoke(ctx, before.RefreshToken, false)
		}
		return s.file.write(tokens)
	})
	if err != nil {
		_ = s.revoke(ctx, tokens.RefreshToken, false) // nobody else has it
		return Tokens{}, err
	}
	return tokens, nil
}

// Fresh returns tokens of which the access token is good for another minute, or for half of its life if it lives less than
// two. It is ErrNone if nobody is logged in, or not any more; the file is removed then.
func (s *Session) Fresh(ctx context.Context) (tokens Tokens, err error) {
	err = s.file.locked(func() error {
		if tokens, err = s.file.read(); err != nil {
			return err
		}
		if s.now().Before(tokens.RefreshAt) {
			return nil
		}
		tokens, err = s.refresh(ctx, tokens)
		return err
	})
	return tokens, err
}

// Logout ends the session, or all sessions of its user, and removes the file. The file stays if that could not be told to
// tokens. It is ErrNone, and ends no other session, if this one has ended.
func (s *Session) Logout(ctx context.Context, everywhere bool) (username string, err error) {
	err = s.file.locked(func() error {
		tokens, err := s.file.read()
		if err != nil {
			return err
		}
		username = tokens.Username
		if everywhere {
			// Who has no session any more ends no others, and would not be told so.
			if tokens, err = s.refresh(ctx, tokens); err != nil {
				return err
			}
		}
		if err := s.revoke(ctx, tokens.RefreshToken, everywhere); err != nil {
			return fmt.Errorf("end the session of %s: %w", username, told(err))
		}
		return s.file.remove()
	})
	return username, err
}

// refresh shows the refresh token and keeps what it gives.
func (s *Session) refresh(ctx context.Context, before Tokens) (Tokens, error) {
	// Whoever interrupts this would lose an answer that took the old token's place.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTimeout)
	defer cancel()
	answer, err := s.client.Refresh(ctx, &tokensv1.RefreshRequest{RefreshToken: before.RefreshToken})
	if status.Code(err) == codes.Unauthenticated && reasonOf(err) == sessionEnded {
		ended := fmt.Errorf("%w: the session of %s has ended. If nobody ended it, and it was not left alone for a month, somebody else may have used its token; log in again", ErrNone, before.Username)
		return Tokens{}, errors.Join(ended, s.file.remove())
	}
	if err != nil {
		return Tokens{}, fmt.Errorf("refresh the session of %s: %w", before.Username, told(err))
	}
	tokens := s.keep(answer.GetTokens(), before.Through)
	if err := s.file.write(tokens); err != nil {
		// The file holds a used token: to show it later would look like a theft, and end all sessions of the user. This one ends.
		_ = s.revoke(ctx, tokens.RefreshToken, false)
		return Tokens{}, errors.Join(fmt.Errorf("the session of %s has ended, as it could not be kept; log in again: %w", before.Username, err), s.file.remove())
	}
	return tokens, nil
}

func (s *Session) revoke(ctx context.Context, token string, everywhere bool) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	_, err := s.client.Revoke(ctx, &tokensv1.RevokeRequest{RefreshToken: token, Everywhere: everywhere})
	return err
}

func (s *Session) keep(pair *tokensv1.TokenPair, through string) Tokens {
	now, expires := s.now(), pair.GetAccessExpires().AsTime()
	return Tokens{
		Username: pair.GetUsername(), Roles: slices.Clone(pair.GetRoles()), Through: through,
		AccessToken: pair.GetAccessToken(), AccessExpires: expires,
		RefreshAt:    now.Add(expires.Sub(now) - min(margin, expires.Sub(now)/2)).UTC(),
		RefreshToken: pair.GetRefreshToken(), RefreshExpires: pair.GetRefreshExpires().AsTime(),
	}
}

// refusal shows people what a service said, without gRPC's own words around it.
type refusal struct{ error }

func (r refusal) Error() string {
	message := status.Convert(r.error).Message()
	if role := infoOf(r.error).GetMetadata()["role"]; role != "" {
		message += ": " + role
	}
	return message
}
func (r refusal) Unwrap() error { return r.error }

func told(err error) error { return refusal{err} }

// reasonOf returns the reason of a refusal, empty for none.
func reasonOf(err error) string { return infoOf(err).GetReason() }

// infoOf returns what a refusal says of itself, nil for none.
func infoOf(err error) *errdetails.ErrorInfo {
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok && info.GetDomain() == "rolecall" {
			return info
		}
	}
	return nil
}
