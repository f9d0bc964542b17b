package interceptors

import (
	"strconv"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"
)

// errorDomain is the domain of every ErrorInfo of ours.
const errorDomain = "rolecall"

// reason is why a call was refused; the zero value says that it was not.
type reason uint8

const (
	allowed reason = iota
	peerCertificateExpired
	peerNotTrusted
	identityDenied
	roleRequired
	methodNotAnnotated
	unauthenticated
	rateLimited
	userRequired
	userTokenInvalid
	userTokenExpired
	userTokenRevoked
	userRoleRequired
	verifierUnavailable
	panicked
	reasonCount
)

// refusals is all that a caller is told: a code, a reason and a constant message. The rest is in the audit record.
var refusals = [reasonCount]struct {
	name    string
	code    codes.Code
	message string
	closes  bool // the connection is closed once the status is out
}{
	allowed:                {name: "", code: codes.OK},
	peerCertificateExpired: {"PEER_CERTIFICATE_EXPIRED", codes.Unauthenticated, "the certificate of the calling workload has expired", true},
	peerNotTrusted:         {"PEER_NOT_TRUSTED", codes.Unauthenticated, "the certificate of the calling workload is no longer trusted", true},
	identityDenied:         {"IDENTITY_DENIED", codes.PermissionDenied, "the calling workload is denied", true},
	roleRequired:           {"ROLE_REQUIRED", codes.PermissionDenied, "the calling workload lacks a role that the method requires", false},
	methodNotAnnotated:     {"METHOD_NOT_ANNOTATED", codes.PermissionDenied, "the method has no policy", false},
	// Reached only by an RPC that did not come in on a connection of the guard's credentials.
	unauthenticated:     {"PEER_NOT_TRUSTED", codes.Unauthenticated, "the calling workload is not authenticated", false},
	rateLimited:         {"RATE_LIMITED", codes.ResourceExhausted, "the calling workload has too much open", false},
	userRequired:        {"USER_REQUIRED", codes.Unauthenticated, "the method is called on behalf of a user, with an access token", false},
	userTokenInvalid:    {"USER_TOKEN_INVALID", codes.Unauthenticated, "the access token of the user is not valid", false},
	userTokenExpired:    {"USER_TOKEN_EXPIRED", codes.Unauthenticated, "the access token of the user has expired", false},
	userTokenRevoked:    {"USER_TOKEN_REVOKED", codes.Unauthenticated, "the access token of the user was revoked", false},
	userRoleRequired:    {"USER_ROLE_REQUIRED", codes.PermissionDenied, "the user lacks a role that the method requires", false},
	verifierUnavailable: {"VERIFIER_UNAVAILABLE", codes.Unavailable, "the service cannot verify what came with the call yet", false},
	panicked:            {"INTERNAL", codes.Internal, "internal error", false},
}

// retryAfter is how long a caller over a limit is asked to wait.
const retryAfter = time.Second

// retryPushback is the trailer that gRPC's own retry reads (gRFC A6), in milliseconds.
const retryPushback = "grpc-retry-pushback-ms"

// retryable tells whether the same call may succeed in a moment.
func (r reason) retryable() bool { return r == rateLimited || r == verifierUnavailable }

func (r reason) String() string { return refusals[r].name }

// err builds the status of a refusal.
func (r reason) err(metadata map[string]string) error {
	refusal := refusals[r]
	details := []protoadapt.MessageV1{&errdetails.ErrorInfo{Domain: errorDomain, Reason: refusal.name, Metadata: metadata}}
	if r.retryable() {
		details = append(details, &errdetails.RetryInfo{RetryDelay: durationpb.New(retryAfter)})
	}
	return withDetails(status.New(refusal.code, refusal.message), details...)
}

func withDetails(s *status.Status, details ...protoadapt.MessageV1) error {
	if detailed, err := s.WithDetails(details...); err == nil {
		return detailed.Err()
	}
	return s.Err()
}

func pushback() string { return strconv.FormatInt(retryAfter.Milliseconds(), 10) }

// InvalidField returns the error of a handler that refuses one field of a request: INVALID_ARGUMENT with a
// BadRequest.FieldViolation and the reason INVALID_FIELD. The description is shown to the caller.
func InvalidField(field, description string) error {
	return withDetails(status.New(codes.InvalidArgument, field+": "+description),
		&errdetails.ErrorInfo{Domain: errorDomain, Reason: "INVALID_FIELD", Metadata: map[string]string{"field": field}},
		&errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{{Field: field, Description: description}}})
}

// refusedFor reports whether err is the refusal of this very method. A handler may pass on what a server refused that it
// called itself: that one names another method.
func refusedFor(err error, r reason, method string) bool {
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok && info.GetDomain() == errorDomain {
			return info.GetReason() == r.String() && info.GetMetadata()["method"] == method
		}
	}
	return false
}
