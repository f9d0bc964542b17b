package users

import (
	"context"
	"strconv"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"example.com/rolecall/interceptors"
)

// busyRetry is how long a caller is asked to wait when too many passwords are being verified.
const busyRetry = 2 * time.Second

// Reasons of refusals.
const (
	rateLimited    = "RATE_LIMITED"
	refusedAsLogin = "LOGIN_REFUSED"
)

// limited is the refusal of what was asked for too often. The caller learns when to come again, in the two ways that
// clients read.
func limited(ctx context.Context, message string, wait time.Duration) error {
	wait = max(wait.Round(time.Second), time.Second)
	_ = grpc.SetTrailer(ctx, metadata.Pairs("grpc-retry-pushback-ms", strconv.FormatInt(wait.Milliseconds(), 10)))
	s, err := status.New(codes.ResourceExhausted, message+": try again later").WithDetails(
		&errdetails.ErrorInfo{Domain: "rolecall", Reason: rateLimited},
		&errdetails.RetryInfo{RetryDelay: durationpb.New(wait)})
	if err != nil {
		return status.Error(codes.ResourceExhausted, message)
	}
	return s.Err()
}

// loginRefused is the one answer to an unknown user, a wrong password, and a user who is disabled or has no password.
func loginRefused() error {
	s, err := status.New(codes.Unauthenticated, "the username or the password is wrong").WithDetails(
		&errdetails.ErrorInfo{Domain: "rolecall", Reason: refusedAsLogin})
	if err != nil {
		return status.Error(codes.Unauthenticated, "the username or the password is wrong")
	}
	return s.Err()
}

// recordRefused puts on record why a login was refused, which the caller is not told. A user who is there is named. The name
// of one who is not never is, as people type passwords there.
func recordRefused(ctx context.Context, username, why string) {
	if username != "" {
		why = "user " + username + ": " + why
	}
	interceptors.CallerFrom(ctx).Denied(refusedAsLogin, why)
}
