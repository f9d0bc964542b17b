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
	proofRequired
	proofInvalid
	proofExpired
	proofReplayed
	proofSignerUnknown
	proofWindowFull
	signerDenied
	signerRoleRequired
	requestIDRequired
	requestIDReused
	requestInProgress
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
	proofRequired:       {"PROOF_REQUIRED", codes.Unauthenticated, "the method is called with a signed proof of the request", false},
	proofInvalid:        {"PROOF_INVALID", codes.Unauthenticated, "the proof is not valid for this request", false},
	proofExpired:        {"PROOF_EXPIRED", codes.Unauthenticated, "the proof has expired", false},
	proofReplayed:       {"PROOF_REPLAYED", codes.Unauthenticated, "the proof was used before", false},
	proofSignerUnknown:  {"PROOF_SIGNER_UNKNOWN", codes.Unauthenticated, "the key of the workload that signed the request is not known", false},
	proofWindowFull:     {"PROOF_WINDOW_FULL", codes.ResourceExhausted, "the workload that signed the request has used too many proofs", false},
	// The signer of a request that another passes on: the connection is of that other one, and stays.
	signerDenied:       {"IDENTITY_DENIED", codes.PermissionDenied, "the workload that signed the request is denied", false},
	signerRoleRequired: {"ROLE_REQUIRED", codes.PermissionDenied, "the workload that signed the request lacks a role that the method requires", false},
	requestIDRequired:  {"REQUEST_ID_REQUIRED", codes.InvalidArgument, "the request needs a request_id that is a UUID", false},
	requestIDReused:    {"REQUEST_ID_REUSED", codes.FailedPrecondition, "the request_id was used before, for another request", false},
	requestInProgress:  {"REQUEST_IN_PROGRESS", codes.Aborted, "the first request with this request_id still runs", false},
	panicked:           {"INTERNAL", codes.Internal, "internal error", false},
}

// The least time that a caller is asked to wait: for room under a limit or a verifier at work, and for what is a matter of
// moments.
const (
	retryAfter = time.Second
	retrySoon  = 100 * time.Millisecond
)

// retryPushback is the trailer that gRPC's own retry reads (gRFC A6), in milliseconds.
const retryPushback = "grpc-retry-pushback-ms"

// retry returns how long a caller waits before the same call, with a proof made anew, may succeed; 0 if it will not.
func (r reason) retry() time.Duration {
	switch r {
	case rateLimited, verifierUnavailable, proofWindowFull:
		return retryAfter
	case proofExpired, requestInProgress:
		return retrySoon
	}
	return 0
}

func (r reason) String() string { return refusals[r].name }

// err builds the status of a refusal.
func (r reason) err(metadata map[string]string) error {
	refusal := refusals[r]
	details := []protoadapt.MessageV1{&errdetails.ErrorInfo{Domain: errorDomain, Reason: refusal.name, Metadata: metadata}}
	if wait := r.retry(); wait > 0 {
		details = append(details, &errdetails.RetryInfo{RetryDelay: durationpb.New(wait)})
	}
	return withDetails(status.New(refusal.code, refusal.message), details...)
}

func withDetails(s *status.Status, details ...protoadapt.MessageV1) error {
	if detailed, err := s.WithDetails(details...); err == nil {
		return detailed.Err()
	}
	return s.Err()
}

func pushback(wait time.Duration) string { return strconv.FormatInt(wait.Milliseconds(), 10) }

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
