package call

import (
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
)

// hints say in one line what to do about a refusal; docs/refusals.md says it at length.
var hints = map[string]string{
	"PEER_CERTIFICATE_EXPIRED": "the certificate has to be renewed: is its source running, and are the clocks right? rolecall status tells",
	"PEER_NOT_TRUSTED":         "get a new certificate, under a root of today: compare with rolecall inspect",
	"IDENTITY_DENIED":          "whoever denied it in roles.yaml of the server wrote the reason beside it",
	"ROLE_REQUIRED":            "bind the role in roles.yaml, or call as somebody who holds it: rolecall roles matrix shows who does",
	"METHOD_NOT_ANNOTATED":     "the server does not have this method: rolecall call --server NAME lists those that it has, if it has reflection",
	"USER_REQUIRED":            "call on behalf of a user: rolecall login USER, and then --user",
	"USER_TOKEN_INVALID":       "the token is none of this mesh: rolecall inspect shows what it says; rolecall login USER gives another",
	"USER_TOKEN_EXPIRED":       "access tokens live for ten minutes: --user takes a fresh one of the session",
	"USER_TOKEN_REVOKED":       "log in again: rolecall login USER",
	"LOGIN_REFUSED":            "the username or the password is wrong, or the user is disabled",
	"SESSION_ENDED":            "log in again: rolecall login USER",
	"USER_ROLE_REQUIRED":       "log in with the role, if the user holds it; otherwise an administrator of users gives it",
	"VERIFIER_UNAVAILABLE":     "try again in a moment; if it stays, look whether the service that the server verifies with, or its database, is up: rolecall status",
	"ACCOUNT_NOT_OWNED":        "let the owner of the account pay, or somebody with ledger.admin",
	"RATE_LIMITED":             "try again in a moment, with less at a time",
	"INVALID_FIELD":            "put the request right; the same one will be refused again",
	"INTERNAL":                 "a defect of the server: its log has the rest",
	"PROOF_REQUIRED":           "the method takes signed requests alone: rolecall call signs where the descriptor says so; is this program older than the server?",
	"PROOF_INVALID":            "the proof is not for this request, method and server as they arrived: somebody changed something, or signed something else; rolecall inspect shows what it says",
	"PROOF_EXPIRED":            "sign again, and pass it on sooner; are the clocks right?",
	"PROOF_REPLAYED":           "a proof is good for one request: sign again; if nobody sent it before, somebody else did",
	"PROOF_SIGNER_UNKNOWN":     "the server does not know the signer's key: is the service keys up, and the signer's certificate announced there?",
	"PROOF_WINDOW_FULL":        "the signer has signed too many requests of late: try again in a moment",
	"REQUEST_ID_REQUIRED":      "give request_id a UUID, or leave it out, and one is made up",
	"REQUEST_ID_REUSED":        "the request_id was used before, for another request: leave it out for a new request, or repeat the old one unchanged",
	"REQUEST_IN_PROGRESS":      "the first request with this request_id still runs: repeat it in a moment, unchanged",
	"TRANSFER_CANCELLED":       "the request was cancelled before it arrived and will never take effect: make a new one",
}

// hintOf says in one line what to do about a refusal; "" if that is not known.
func hintOf(info *errdetails.ErrorInfo) string {
	if info.GetReason() == "ROLE_REQUIRED" {
		switch metadata := info.GetMetadata(); {
		case metadata["narrowed"] == "true":
			return "the call gave this role up, with --role-subset: name the role there too, or leave the flag out"
		case metadata["of"] == "signer":
			return "whoever signed does not hold the role, or gave it up in signing, with --role-subset: rolecall inspect shows which roles are left"
		}
	}
	return hints[info.GetReason()]
}

// hintOfCode is for errors without a reason of ours.
var hintOfCode = map[codes.Code]string{
	codes.Unavailable:      "nobody answered there, or one side refused the other's certificate: rolecall status, and 'Handshakes that fail' in docs/refusals.md",
	codes.DeadlineExceeded: "give it more time with --timeout, and look how the server is: rolecall status",
	codes.Unimplemented:    "the server does not have this method: rolecall call --server NAME lists those that it has",
	codes.Canceled:         "it was interrupted before the answer came",
}

// hintOfReflection is for servers that do not tell what they serve.
const hintOfReflection = "the server may have the method, and does not tell what it serves: register reflection there (reflection.Register(srv)), and bind the role rolecall.reflector"

// uncertain are the codes after which nobody can tell whether a request has taken effect.
func uncertain(c codes.Code) bool {
	switch c {
	case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled, codes.Unknown, codes.Internal, codes.Aborted, codes.DataLoss:
		return true
	}
	return false
}
