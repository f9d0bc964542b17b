package tokens

import (
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"regexp"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	tokensv1 "example.com/rolecall/gen/tokens/v1"
	"example.com/rolecall/interceptors"
)

// Revoke ends the session of a refresh token, also of one that was used long ago, or all sessions of its user.
func (s *Service) Revoke(ctx context.Context, req *tokensv1.RevokeRequest) (*tokensv1.RevokeResponse, error) {
	token, err := parseRefresh(req.GetRefreshToken())
	if err != nil {
		return &tokensv1.RevokeResponse{}, nil
	}
	now := s.now().Truncate(time.Microsecond)
	seen, err := s.tables.look(ctx, token, now)
	if err != nil {
		return nil, s.status(ctx, "revoke", err)
	}
	switch {
	case seen.standing == unknown || seen.standing == ended: // who has no session any more ends no others
		return &tokensv1.RevokeResponse{}, nil
	case req.GetEverywhere():
		return &tokensv1.RevokeResponse{}, s.revokeUser(ctx, seen.session.username, now)
	}
	if err := s.tables.revokeSession(ctx, seen.session.id, now); err != nil {
		return nil, s.status(ctx, "revoke", err)
	}
	return &tokensv1.RevokeResponse{}, nil
}

var username = regexp.MustCompile(`^[a-z][a-z0-9._-]{0,63}$`)

// RevokeUser ends all sessions of a user. NOT_FOUND if users knows none of that name.
func (s *Service) RevokeUser(ctx context.Context, req *tokensv1.RevokeUserRequest) (*tokensv1.RevokeUserResponse, error) {
	if !username.MatchString(req.GetUsername()) {
		return nil, interceptors.InvalidField("username", "must be 1 to 64 of a-z, 0-9, dot, dash and underscore, starting with a letter")
	}
	if _, err := s.subject(ctx, req.GetUsername()); status.Code(err) == codes.NotFound {
		return nil, status.Error(codes.NotFound, "there is no such user")
	}
	if err := s.revokeUser(ctx, req.GetUsername(), s.now().Truncate(time.Microsecond)); err != nil {
		return nil, err
	}
	return &tokensv1.RevokeUserResponse{}, nil
}

// revokeUser ends the sessions at once, and has users raise the generation. While users does not answer, the caller is told;
// it is done as soon as it does.
func (s *Service) revokeUser(ctx context.Context, username string, now time.Time) error {
	if err := s.tables.revokeUser(ctx, username, now); err != nil {
		return s.status(ctx, "end the sessions of a user", err)
	}
	d, err := s.tables.debt(ctx, username)
	if errors.Is(err, sql.ErrNoRows) {
		return nil // it has been delivered meanwhile
	}
	if err != nil {
		return s.status(ctx, "end the sessions of a user", err)
	}
	if err := s.deliver(ctx, d); err != nil {
		s.log.LogAttrs(ctx, slog.LevelWarn, "a generation could not be raised yet; trying again", slog.String("user", username), slog.Any("error", err))
		return status.Error(codes.Unavailable, "the sessions have ended; access tokens end as soon as users answers, at the latest by themselves")
	}
	return nil
}
