// Package refusal makes the errors of handlers that say why in a form that programs read, and reads them. What a guard refuses
// by itself is package interceptors' own business.
package refusal

import (
	"context"
	"strconv"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"
)

// Reasons of services: docs/refusals.md has a paragraph for each.
const (
	AccountNotOwned   = "ACCOUNT_NOT_OWNED"
	LoginRefused      = "LOGIN_REFUSED"
	RateLimited       = "RATE_LIMITED"
	SessionEnded      = "SESSION_ENDED"
	TransferCancelled = "TRANSFER_CANCELLED"
)

const domain = "rolecall"

// New returns a status with a reason. wait is when the same call may succeed, as RetryInfo; zero says nothing of that.
func New(code codes.Code, reason, message string, wait time.Duration) error {
	details := []protoadapt.MessageV1{&errdetails.ErrorInfo{Domain: domain, Reason: reason}}
	if wait > 0 {
		details = append(details, &errdetails.RetryInfo{RetryDelay: durationpb.New(wait)})
	}
	s := status.New(code, message)
	if detailed, err := s.WithDetails(details...); err == nil {
		s = detailed
	}
	return s.Err()
}

// Limited returns the refusal of what was asked for too often. The caller learns when to come again, in the two ways that clients
// read: RetryInfo, and the trailer that gRPC's own retry goes by (gRFC A6).
func Limited(ctx context.Context, message string, wait time.Duration) error {
	_ = grpc.SetTrailer(ctx, metadata.Pairs("grpc-retry-pushback-ms", strconv.FormatInt(wait.Milliseconds(), 10))) // fails outside of a server
	return New(codes.ResourceExhausted, RateLimited, message, wait)
}

// Reason returns the reason of a refusal, of a guard or of a service; empty for none.
func Reason(err error) string {
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok && info.GetDomain() == domain {
			return info.GetReason()
		}
	}
	return ""
}

// Wait returns when a call that was refused may succeed; zero if the refusal does not say.
func Wait(err error) time.Duration {
	for _, detail := range status.Convert(err).Details() {
		if retry, ok := detail.(*errdetails.RetryInfo); ok {
			return retry.GetRetryDelay().AsDuration()
		}
	}
	return 0
}
