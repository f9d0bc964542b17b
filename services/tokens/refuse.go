package tokens

import (
	"cmp"
	"context"
	"errors"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"example.com/rolecall/internal/refusal"
	"example.com/rolecall/internal/store"
)

var errTooLong = errors.New("an access token of the user would be longer than 8 KiB")

// refusedRefresh is the one answer to a refresh token that is not good, whatever is wrong with it.
func refusedRefresh() error {
	return refusal.New(codes.Unauthenticated, refusal.SessionEnded, "the session has ended, or there never was one: log in again", 0)
}

// passLimit passes on that users limits something, with when to come again.
func passLimit(ctx context.Context, err error) error {
	return limited(ctx, "too many logins", cmp.Or(refusal.Wait(err), time.Second))
}

func limited(ctx context.Context, message string, wait time.Duration) error {
	return refusal.Limited(ctx, message+": try again later", wait)
}

// status turns what the store or a key answered into what the caller is told.
func (s *Service) status(ctx context.Context, doing string, err error) error {
	switch {
	case errors.Is(err, errTooOften):
		return limited(ctx, "the session is refreshed too often", s.config.Grace)
	case errors.Is(err, errTooLong):
		return status.Error(codes.FailedPrecondition, "the user's roles and attributes do not fit into an access token of 8 KiB: ask for fewer roles, or shorten the attributes")
	case errors.Is(err, errNoKey):
		return status.Error(codes.Unavailable, errNoKey.Error())
	default:
		return store.Status(ctx, s.log, doing, err)
	}
}
