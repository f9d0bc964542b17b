package interceptors

import (
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"example.com/rolecall/interceptors/internal/feature"
)

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
	requestsFull
	requestsUnavailable
	panicked
	reasonCount
)

// refusals is what a caller is told.
var refusals = [reasonCount]feature.Refusal{
	peerCertificateExpired: {Reason: "PEER_CERTIFICATE_EXPIRED", Code: codes.Unauthenticated, Message: "the certificate of the calling workload has expired"},
	peerNotTrusted:         {Reason: "PEER_NOT_TRUSTED", Code: codes.Unauthenticated, Message: "the certificate of the calling workload is no longer trusted"},
	identityDenied:         {Reason: "IDENTITY_DENIED", Code: codes.PermissionDenied, Message: "the calling workload is denied"},
	roleRequired:           {Reason: "ROLE_REQUIRED", Code: codes.PermissionDenied, Message: "the calling workload lacks a role that the method requires"},
	methodNotAnnotated:     {Reason: "METHOD_NOT_ANNOTATED", Code: codes.PermissionDenied, Message: "the method has no policy"},
	// Reached only by an RPC that did not come in on a connection of the guard's credentials.
	unauthenticated:     {Reason: "PEER_NOT_TRUSTED", Code: codes.Unauthenticated, Message: "the calling workload is not authenticated"},
	rateLimited:         {Reason: "RATE_LIMITED", Code: codes.ResourceExhausted, Message: "the calling workload has too much open", Wait: feature.RetryAfter},
	userRequired:        {Reason: "USER_REQUIRED", Code: codes.Unauthenticated, Message: "the method is called on behalf of a user, with an access token"},
	userTokenInvalid:    {Reason: "USER_TOKEN_INVALID", Code: codes.Unauthenticated, Message: "the access token of the user is not valid"},
	userTokenExpired:    {Reason: "USER_TOKEN_EXPIRED", Code: codes.Unauthenticated, Message: "the access token of the user has expired"},
	userTokenRevoked:    {Reason: "USER_TOKEN_REVOKED", Code: codes.Unauthenticated, Message: "the access token of the user was revoked"},
	userRoleRequired:    {Reason: "USER_ROLE_REQUIRED", Code: codes.PermissionDenied, Message: "the user lacks a role that the method requires"},
	verifierUnavailable: {Reason: "VERIFIER_UNAVAILABLE", Code: codes.Unavailable, Message: "the service cannot verify what came with the call yet", Wait: feature.RetryAfter},
	proofRequired:       {Reason: "PROOF_REQUIRED", Code: codes.Unauthenticated, Message: "the method is called with a signed proof of the request"},
	proofInvalid:        {Reason: "PROOF_INVALID", Code: codes.Unauthenticated, Message: "the proof is not valid for this request"},
	proofExpired:        {Reason: "PROOF_EXPIRED", Code: codes.Unauthenticated, Message: "the proof has expired", Wait: feature.RetrySoon},
	proofReplayed:       {Reason: "PROOF_REPLAYED", Code: codes.Unauthenticated, Message: "the proof was used before"},
	proofSignerUnknown:  {Reason: "PROOF_SIGNER_UNKNOWN", Code: codes.Unauthenticated, Message: "the key of the workload that signed the request is not known"},
	proofWindowFull:     {Reason: "PROOF_WINDOW_FULL", Code: codes.ResourceExhausted, Message: "the workload that signed the request has used too many proofs", Wait: feature.RetryAfter},
	// The signer of a request that another passes on: the connection is of that other one, and stays.
	signerDenied:        {Reason: "IDENTITY_DENIED", Code: codes.PermissionDenied, Message: "the workload that signed the request is denied"},
	signerRoleRequired:  {Reason: "ROLE_REQUIRED", Code: codes.PermissionDenied, Message: "the workload that signed the request lacks a role that the method requires"},
	requestIDRequired:   feature.RequestIDRequired,
	requestIDReused:     feature.RequestIDReused,
	requestInProgress:   feature.RequestInProgress,
	requestsFull:        feature.RequestsFull,
	requestsUnavailable: feature.RequestsUnavailable,
	panicked:            {Reason: "INTERNAL", Code: codes.Internal, Message: "internal error"},
}

// closes tells whether the connection is closed once the status is out.
func (r reason) closes() bool {
	return r == peerCertificateExpired || r == peerNotTrusted || r == identityDenied
}

// repeated tells whether clients make a call once more that was refused for it: before the handler, as they take it.
func (r reason) repeated() bool {
	return r == peerCertificateExpired || r == proofExpired || r == proofSignerUnknown
}

func (r reason) String() string { return refusals[r].Reason }

// err builds the status of a refusal.
func (r reason) err(metadata map[string]string) error { return refusals[r].Err(metadata) }

// InvalidField returns the error of a handler that refuses one field of a request: INVALID_ARGUMENT with a
// BadRequest.FieldViolation and the reason INVALID_FIELD. The description is shown to the caller.
func InvalidField(field, description string) error {
	return feature.WithDetails(status.New(codes.InvalidArgument, field+": "+description),
		&errdetails.ErrorInfo{Domain: feature.ErrorDomain, Reason: "INVALID_FIELD", Metadata: map[string]string{"field": field}},
		&errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{{Field: field, Description: description}}})
}
