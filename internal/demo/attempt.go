package demo

import (
	"context"
	"time"

	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// attempt is one thing that somebody tries.
type attempt struct {
	what    string // in a few words
	command string // how to try it by hand
	try     func(context.Context) outcome
	want    outcome // its code and reason; the text is not compared
	why     string
	within  time.Duration // zero: patience
}

// outcome is what came of an attempt.
type outcome struct {
	code   string   // "OK", another gRPC code, or noConnection
	reason string   // of a refusal
	text   string   // the answer, or the message of the refusal
	noted  string   // what there is to say beside it: by the server, where the caller is told little
	shown  []string // lines of what was found
}

// noConnection is the code where a handshake failed.
const noConnection = "no connection"

// The outcomes that the tour expects.
var (
	ok               = outcome{code: "OK"}
	roleRequired     = outcome{code: "PERMISSION_DENIED", reason: "ROLE_REQUIRED"}
	userRequired     = outcome{code: "UNAUTHENTICATED", reason: "USER_REQUIRED"}
	userRoleRequired = outcome{code: "PERMISSION_DENIED", reason: "USER_ROLE_REQUIRED"}
	userTokenRevoked = outcome{code: "UNAUTHENTICATED", reason: "USER_TOKEN_REVOKED"}
	loginRefused     = outcome{code: "UNAUTHENTICATED", reason: "LOGIN_REFUSED"}
	sessionEnded     = outcome{code: "UNAUTHENTICATED", reason: "SESSION_ENDED"}
	proofRequired    = outcome{code: "UNAUTHENTICATED", reason: "PROOF_REQUIRED"}
	proofInvalid     = outcome{code: "UNAUTHENTICATED", reason: "PROOF_INVALID"}
	proofExpired     = outcome{code: "UNAUTHENTICATED", reason: "PROOF_EXPIRED"}
	proofReplayed    = outcome{code: "UNAUTHENTICATED", reason: "PROOF_REPLAYED"}
	signerUnknown    = outcome{code: "UNAUTHENTICATED", reason: "PROOF_SIGNER_UNKNOWN"}
	requestIDReused  = outcome{code: "FAILED_PRECONDITION", reason: "REQUEST_ID_REUSED"}
	accountNotOwned  = outcome{code: "PERMISSION_DENIED", reason: "ACCOUNT_NOT_OWNED"}
)

// refusedAt is a handshake that the server refused for a reason.
func refusedAt(reason string) outcome { return outcome{code: noConnection, reason: reason} }

// answered reads the end of a call.
func answered(response proto.Message, err error) outcome {
	if err == nil {
		return outcome{code: ok.code, text: compact(response)}
	}
	s := status.Convert(err)
	o := outcome{code: code.Code_name[int32(s.Code())], text: s.Message()}
	for _, detail := range s.Details() {
		if info, is := detail.(*errdetails.ErrorInfo); is && info.GetDomain() == "rolecall" {
			o.reason = info.GetReason()
			if role := info.GetMetadata()["role"]; role != "" {
				o.text += " (" + role + ")"
			}
		}
	}
	return o
}
