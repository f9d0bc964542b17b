package tokens

import (
	"context"
	"log/slog"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	tokensv1 "example.com/rolecall/gen/tokens/v1"
	"example.com/rolecall/interceptors"
	"example.com/rolecall/internal/refusal"
)

// Refresh takes a refresh token and gives the next pair. users is asked before the token is used up: while it does not
// answer, nothing is lost. A token that was used before the grace ends all sessions of its user (RFC 9700 section 4.14.2).
func (s *Service) Refresh(ctx context.Context, req *tokensv1.RefreshRequest) (*tokensv1.RefreshResponse, error) {
	token, err := parseRefresh(req.GetRefreshToken())
	if err != nil {
		return nil, refusedRefresh()
	}
	now := s.now().Truncate(time.Microsecond) // as the database has it
	seen, err := s.tables.look(ctx, token, now)
	if err != nil {
		return nil, s.status(ctx, "refresh", err)
	}
	switch seen.standing {
	case unknown, ended:
		return nil, refusedRefresh()
	case stolen:
		return nil, s.refreshStolen(ctx, token, now)
	}
	client := interceptors.CallerFrom(ctx).ID().String()
	if client != seen.session.clientID {
		// RFC 6749 section 6: the token belongs to the client that it was given to. It stays good for that one.
		s.log.LogAttrs(ctx, slog.LevelWarn, "a refresh token was shown by another workload than it was given to",
			slog.String("user", seen.session.username), slog.String("session", seen.session.id), slog.String("client", client))
		return nil, refusedRefresh()
	}
	subject, err := s.subject(ctx, seen.session.username)
	if err != nil && status.Code(err) != codes.NotFound {
		return nil, err
	}
	// A generation above the user's is one from before users was put back from a copy: what has ended since is not known there.
	began := seen.session.generation
	if err != nil || subject.GetDisabled() || began < subject.GetSessionGeneration() || began > subject.GetGeneration() {
		if err := s.tables.revokeSession(ctx, seen.session.id, now); err != nil {
			return nil, s.status(ctx, "end a session", err)
		}
		return nil, refusedRefresh()
	}
	access, err := s.mint(ctx, seen.session, subject, now)
	if err != nil {
		return nil, s.status(ctx, "refresh", err)
	}
	used, next, err := s.tables.rotateAt(ctx, token, now, s.now().Truncate(time.Microsecond))
	if err != nil {
		return nil, s.status(ctx, "refresh", err)
	}
	switch used.standing {
	case current, graced:
		s.counts.issued(ctx, "refresh")
		return &tokensv1.RefreshResponse{Tokens: pair(used.session, access, next)}, nil
	case stolen:
		s.tellStolen(ctx, used.session)
	}
	return nil, refusedRefresh()
}

// refreshStolen ends the sessions of the user whose refresh token was used before.
func (s *Service) refreshStolen(ctx context.Context, token refresh, now time.Time) error {
	used, _, err := s.tables.rotate(ctx, token, now)
	if err != nil {
		return s.status(ctx, "end the sessions of a user", err)
	}
	if used.standing == stolen {
		s.tellStolen(ctx, used.session)
	}
	return refusedRefresh()
}

func (s *Service) tellStolen(ctx context.Context, of session) {
	s.counts.reused(ctx)
	interceptors.CallerFrom(ctx).Denied(refusal.SessionEnded, "a refresh token was used again: all sessions of user "+of.username+" have ended; session "+of.id+" was begun through "+of.clientID)
	s.log.LogAttrs(ctx, slog.LevelError, "a refresh token was used again: all sessions of the user have ended",
		slog.String("user", of.username), slog.String("session", of.id), slog.String("given_to", of.clientID),
		slog.String("shown_by", interceptors.CallerFrom(ctx).ID().String()))
}
