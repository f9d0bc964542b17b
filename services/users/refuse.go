package users

import (
	"context"
	"time"

	"google.golang.org/grpc/codes"

	"example.com/rolecall/interceptors"
	"example.com/rolecall/internal/refusal"
)

// busyRetry is how long a caller is asked to wait when too many passwords are being verified.
const busyRetry = 2 * time.Second

// limited is the refusal of what was asked for too often. The wait is told in whole seconds.
func limited(ctx context.Context, message string, wait time.Duration) error {
	return refusal.Limited(ctx, message+": try again later", max(wait.Round(time.Second), time.Second))
}

// loginRefused is the one answer to an unknown user, a wrong password, and a user who is disabled or has no password.
func loginRefused() error {
	return refusal.New(codes.Unauthenticated, refusal.LoginRefused, "the username or the password is wrong", 0)
}

// recordRefused puts on record why a login was refused, which the caller is not told. A user who is there is named. The name
// of one who is not never is, as people type passwords there.
func recordRefused(ctx context.Context, username, why string) {
	if username != "" {
		why = "user " + username + ": " + why
	}
	interceptors.CallerFrom(ctx).Denied(refusal.LoginRefused, why)
}
