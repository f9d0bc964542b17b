package tokens

import (
	"context"
	"errors"
	"strconv"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"example.com/rolecall/internal/store"
)

// Reasons of refusals.
const (
	loginRefused = "LOGIN_REFUSED"
	sessionEnded = "SESSION_ENDED"
	rateLimited  = "RATE_LIMITED"
)

var errTooLong = errors.New("an access token of the user would be longer than 8 KiB")

func refusal(code codes.Code, reason, message string) error {
	s, err := status.New(code, message).WithDetails(&errdetails.ErrorInfo{Domain: "rolecall", Reason: reason})
	if err != nil {
		return status.Error(code, message)
	}
	return s.Err()
}

// refusedRefresh is the one answer to a refresh token that is not good, whatever is wrong with it.
func refusedRefresh() error {
	return refusal(codes.Unauthenticated, sessionEnded, "the session has ended, or there never was one: log in again")
}

// reasonOf returns the reason of a refusal, empty for none.
func reasonOf(err error) string {
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok && info.GetDomain() == "rolecall" {
			return info.GetReason()
		}
	}
	return ""
}

// passLimit passes on that users limits something, with when to come again, in the two ways that clients read.
func passLimit(ctx context.Context, err error) error {
	wait := time.Second
	for _, detail := range status.Convert(err).Details() {
		if retry, ok := detail.(*errdetails.RetryInfo); ok {
			wait = retry.GetRetryDelay().AsDuration()
		}
	}
	return limited(ctx, "too many logins", wait)
}

func limited(ctx context.Context, message string, wait time.Duration) error {
	_ = grpc.SetTrailer(ctx, metadata.Pairs("grpc-retry-pushback-ms", strconv.FormatInt(wait.Milliseconds(), 10)))
	s, err := status.New(codes.ResourceExhausted, message+": try again later").WithDetails(
		&errdetails.ErrorInfo{Domain: "rolecall", Reason: rateLimited}, &errdetails.RetryInfo{RetryDelay: durationpb.New(wait)})
	if err != nil {
		return status.Error(codes.ResourceExhausted, message)
	}
	return s.Err()
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
