package call

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	codev1 "google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/anypb"

	"example.com/rolecall/internal/cli"
)

// Failure is a call that ended otherwise than with OK.
type Failure struct {
	// Code is the name of the gRPC code, as google.rpc.Code has it.
	Code    string `json:"code"`
	Message string `json:"message"`
	// Details are those of the status, each with its "@type".
	Details []json.RawMessage `json:"details"`
	// Hint is what to do next; empty if that is not known.
	Hint string `json:"hint,omitempty"`
	// RequestID is set if it is not known whether the request has taken effect: the same one with this request_id finds out.
	RequestID string `json:"repeat_with_request_id,omitempty"`

	reason     string
	metadata   map[string]string
	violations []*errdetails.BadRequest_FieldViolation
	retryAfter time.Duration
	others     []string // types of details that are not explained
}

// NewFailure explains the error of a call. The request_id is that of the request; empty: it has none, or was not sent.
func NewFailure(err error, requestID string) *Failure {
	s := status.Convert(err)
	f := &Failure{Code: codev1.Code(s.Code()).String(), Message: s.Message(), Details: []json.RawMessage{}, Hint: hintOfCode[s.Code()]}
	if uncertain(s.Code()) {
		f.RequestID = requestID
	}
	for _, detail := range s.Proto().GetDetails() {
		f.Details = append(f.Details, detailJSON(detail))
		f.explain(detail)
	}
	return f
}

// NewReflectionFailure explains the error of Reflect.
func NewReflectionFailure(err error) *Failure {
	f := NewFailure(err, "")
	if f.reason == "METHOD_NOT_ANNOTATED" || status.Code(err) == codes.Unimplemented {
		f.Hint = hintOfReflection
	}
	return f
}

// Again says what an attempt ended with, where the client makes another by itself.
func Again(err error) string {
	f := NewFailure(err, "")
	if f.reason == "PROOF_EXPIRED" {
		return "the server refuses the proof as expired, as it does with all from before its start and of its first seconds: the request is signed again"
	}
	return "an attempt ended with " + f.Code + ", " + f.Message + ", and another is made"
}

func (f *Failure) explain(detail *anypb.Any) {
	message, err := detail.UnmarshalNew()
	if err != nil {
		f.others = append(f.others, detail.GetTypeUrl())
		return
	}
	switch d := message.(type) {
	case *errdetails.ErrorInfo:
		f.reason, f.metadata = d.GetReason(), d.GetMetadata()
		if d.GetDomain() != "rolecall" {
			f.reason += " of " + d.GetDomain()
		} else if hint := hintOf(d); hint != "" {
			f.Hint = hint
		}
	case *errdetails.BadRequest:
		f.violations = append(f.violations, d.GetFieldViolations()...)
	case *errdetails.RetryInfo:
		f.retryAfter = d.GetRetryDelay().AsDuration()
	default:
		f.others = append(f.others, string(message.ProtoReflect().Descriptor().FullName()))
	}
}

// detailJSON writes a detail as google.protobuf.Any has it in JSON; one of a type that is not known keeps its bytes.
func detailJSON(detail *anypb.Any) json.RawMessage {
	data, err := protojson.Marshal(detail)
	if err == nil {
		return data
	}
	data, _ = json.Marshal(map[string]string{"@type": detail.GetTypeUrl(), "value": base64.StdEncoding.EncodeToString(detail.GetValue())})
	return data
}

// Lines explain the failure to people. What the server said in it does nothing to a terminal.
func (f *Failure) Lines() []string {
	lines := []string{f.Code + ": " + f.Message}
	add := func(name, format string, args ...any) {
		lines = append(lines, fmt.Sprintf("  %-12s ", name)+fmt.Sprintf(format, args...))
	}
	if f.reason != "" {
		add("reason", "%s", f.reason)
	}
	for _, name := range slices.Sorted(maps.Keys(f.metadata)) {
		add(name, "%s", f.metadata[name])
	}
	for _, v := range f.violations {
		if f.Message == v.GetField()+": "+v.GetDescription() {
			continue
		}
		add("wrong", "%s: %s", v.GetField(), v.GetDescription())
	}
	if f.retryAfter > 0 {
		add("retry", "after %s", f.retryAfter)
	}
	if len(f.others) > 0 {
		add("with", "%s (see -o json)", strings.Join(f.others, ", "))
	}
	if f.Hint != "" {
		add("next", "%s", f.Hint)
	}
	if f.RequestID != "" {
		add("repeat", `it may have taken effect: the same request with "request_id": "%s" finds out, and takes effect once`, f.RequestID)
	}
	for i, line := range lines {
		lines[i] = cli.Clean(line)
	}
	return lines
}
