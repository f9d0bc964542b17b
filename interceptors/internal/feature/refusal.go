package feature

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

// ErrorDomain is the domain of every ErrorInfo of ours.
const ErrorDomain = "rolecall"

// Refusal is all that a caller is told of a call that is refused. The rest is in the audit record.
type Refusal struct {
	Code    codes.Code
	Reason  string
	Message string
	Wait    time.Duration // after which the same call, with a proof made anew, may succeed; 0: it will not
}

// The least time that a caller is asked to wait: for room under a limit or what cannot be reached, and for what is a matter of
// moments.
const (
	RetryAfter = time.Second
	RetrySoon  = 100 * time.Millisecond
)

// What requests that take effect once are refused for: by the guard, for a verdict, and by who asks what came of one.
var (
	RequestIDRequired   = Refusal{codes.InvalidArgument, "REQUEST_ID_REQUIRED", "the request needs a request_id that is a UUID", 0}
	RequestIDReused     = Refusal{codes.FailedPrecondition, "REQUEST_ID_REUSED", "the request_id was used before, for another request", 0}
	RequestInProgress   = Refusal{codes.Aborted, "REQUEST_IN_PROGRESS", "the first request with this request_id still runs", RetrySoon}
	RequestsFull        = Refusal{codes.ResourceExhausted, "RATE_LIMITED", "as many requests of the caller are remembered as may be", RetryAfter}
	RequestsUnavailable = Refusal{codes.Unavailable, "VERIFIER_UNAVAILABLE", "the database does not answer: send the request again, with the same request_id", RetryAfter}
)

// Err builds the status of a refusal.
func (r Refusal) Err(metadata map[string]string) error {
	details := []protoadapt.MessageV1{&errdetails.ErrorInfo{Domain: ErrorDomain, Reason: r.Reason, Metadata: metadata}}
	if r.Wait > 0 {
		details = append(details, &errdetails.RetryInfo{RetryDelay: durationpb.New(r.Wait)})
	}
	return WithDetails(status.New(r.Code, r.Message), details...)
}

// WithDetails returns a status with its details as an error; without them if they cannot be encoded.
func WithDetails(s *status.Status, details ...protoadapt.MessageV1) error {
	if detailed, err := s.WithDetails(details...); err == nil {
		return detailed.Err()
	}
	return s.Err()
}

// RetryPushback is the trailer that gRPC's own retry reads (gRFC A6), in milliseconds.
const RetryPushback = "grpc-retry-pushback-ms"

// SetPushback has gRPC's own retry wait as long as RetryInfo says to others. It does nothing for 0, and outside of a server.
func SetPushback(ctx context.Context, wait time.Duration) {
	if wait > 0 {
		_ = grpc.SetTrailer(ctx, metadata.Pairs(RetryPushback, strconv.FormatInt(wait.Milliseconds(), 10)))
	}
}

// MaxAttempts is how often a client makes a call in all of which nobody knows what came of it, where the method says that this
// does no harm: few, since a service that is called so makes as many calls itself.
const MaxAttempts = 4

// RefusedFor tells whether an error is the refusal of this very method before its handler was reached, so that nothing has
// happened. A handler may pass on what a server refused that it called itself: that one names another method. Nor does a
// refusal out of a handler name the method, where it is one that clients repeat.
func RefusedFor(err error, reason, method string) bool {
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok && info.GetDomain() == ErrorDomain {
			return info.GetReason() == reason && info.GetMetadata()["method"] == method
		}
	}
	return false
}
