package call_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"

	"example.com/rolecall/internal/call"
)

func refusal(t *testing.T, code codes.Code, message string, details ...protoadapt.MessageV1) error {
	t.Helper()
	s, err := status.New(code, message).WithDetails(details...)
	if err != nil {
		t.Fatal(err)
	}
	return s.Err()
}

func TestARefusalIsExplainedLineByLine(t *testing.T) {
	t.Parallel()
	err := refusal(t, codes.ResourceExhausted, "too much",
		&errdetails.ErrorInfo{Domain: "rolecall", Reason: "RATE_LIMITED", Metadata: map[string]string{"method": "/a.B/C", "b": "\x1b[31mred"}},
		&errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{{Field: "amount", Description: "must be more than zero"}}},
		&errdetails.RetryInfo{RetryDelay: durationpb.New(time.Second)}, &errdetails.Help{})
	want := []string{
		"RESOURCE_EXHAUSTED: too much", "  reason       RATE_LIMITED", "  b            ?[31mred", "  method       /a.B/C",
		"  wrong        amount: must be more than zero", "  retry        after 1s", "  with         google.rpc.Help (see -o json)",
		"  next         try again in a moment, with less at a time",
	}
	if diff := cmp.Diff(want, call.NewFailure(err, "id").Lines()); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
}

func TestARefusalIsWrittenForPrograms(t *testing.T) {
	t.Parallel()
	s := status.New(codes.PermissionDenied, "no").Proto()
	info, err := anypb.New(&errdetails.ErrorInfo{Domain: "rolecall", Reason: "ROLE_REQUIRED"})
	if err != nil {
		t.Fatal(err)
	}
	s.Details = []*anypb.Any{info, {TypeUrl: "type.googleapis.com/no.Body", Value: []byte("hi")}}
	data, err := json.Marshal(call.NewFailure(status.FromProto(s).Err(), ""))
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Code, Message string
		Details       []map[string]any
	}
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	want := []map[string]any{
		{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "domain": "rolecall", "reason": "ROLE_REQUIRED"},
		{"@type": "type.googleapis.com/no.Body", "value": "aGk="},
	}
	if diff := cmp.Diff(want, got.Details); diff != "" || got.Code != "PERMISSION_DENIED" || got.Message != "no" {
		t.Errorf("%s, details (-want +got):\n%s", data, diff)
	}
}

func TestTheRequestIDIsToldWhereNobodyKnowsWhatCameOfTheRequest(t *testing.T) {
	t.Parallel()
	for code, told := range map[codes.Code]bool{
		codes.Unavailable: true, codes.DeadlineExceeded: true, codes.Canceled: true, codes.Aborted: true, codes.Internal: true,
		codes.PermissionDenied: false, codes.InvalidArgument: false, codes.FailedPrecondition: false, codes.Unauthenticated: false,
	} {
		lines := strings.Join(call.NewFailure(status.Error(code, "x"), "4711").Lines(), "\n")
		if strings.Contains(lines, `"request_id": "4711"`) != told {
			t.Errorf("%s: %q", code, lines)
		}
	}
	if f := call.NewFailure(errors.New("something else"), ""); f.Code != "UNKNOWN" || f.Message != "something else" {
		t.Errorf("an error without a status: got %+v", f)
	}
}

func TestAReasonOfSomebodyElseGetsNoHintOfOurs(t *testing.T) {
	t.Parallel()
	f := call.NewFailure(refusal(t, codes.PermissionDenied, "no", &errdetails.ErrorInfo{Domain: "elsewhere", Reason: "ROLE_REQUIRED"}), "")
	if lines := strings.Join(f.Lines(), "\n"); f.Hint != "" || !strings.Contains(lines, "ROLE_REQUIRED of elsewhere") {
		t.Errorf("got %q", lines)
	}
}

func TestTheHintIsAboutWhatHappened(t *testing.T) {
	t.Parallel()
	role := func(metadata map[string]string) error {
		return refusal(t, codes.PermissionDenied, "no", &errdetails.ErrorInfo{Domain: "rolecall", Reason: "ROLE_REQUIRED", Metadata: metadata})
	}
	for _, tc := range []struct {
		name, want string
		got        *call.Failure
	}{
		{"a role that the caller lacks", "bind the role in roles.yaml", call.NewFailure(role(map[string]string{"role": "a.b"}), "")},
		{"a role that the caller gave up", "gave this role up, with --role-subset", call.NewFailure(role(map[string]string{"role": "a.b", "narrowed": "true"}), "")},
		{"a role that the signer lacks", "whoever signed", call.NewFailure(role(map[string]string{"role": "a.b", "of": "signer"}), "")},
		{"no such method", "--server NAME lists", call.NewFailure(refusal(t, codes.PermissionDenied, "no", &errdetails.ErrorInfo{Domain: "rolecall", Reason: "METHOD_NOT_ANNOTATED"}), "")},
		{"no reflection, with a guard", "reflection.Register(srv)", call.NewReflectionFailure(refusal(t, codes.PermissionDenied, "no", &errdetails.ErrorInfo{Domain: "rolecall", Reason: "METHOD_NOT_ANNOTATED"}))},
		{"no reflection, without a guard", "reflection.Register(srv)", call.NewReflectionFailure(status.Error(codes.Unimplemented, "unknown service"))},
		{"reflection, and no role", "bind the role in roles.yaml", call.NewReflectionFailure(role(nil))},
	} {
		if !strings.Contains(tc.got.Hint, tc.want) {
			t.Errorf("%s: got %q, want %q", tc.name, tc.got.Hint, tc.want)
		}
	}
}

func TestAnAttemptThatAnotherFollowsIsExplained(t *testing.T) {
	t.Parallel()
	for want, err := range map[string]error{
		"from before its start and of its first seconds: the request is signed again": refusal(t, codes.Unauthenticated, "no", &errdetails.ErrorInfo{Domain: "rolecall", Reason: "PROOF_EXPIRED"}),
		"an attempt ended with UNAVAILABLE, gone, and another is made":                status.Error(codes.Unavailable, "gone"),
	} {
		if got := call.Again(err); !strings.Contains(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestEveryReasonHasAHint(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "refusals.md"))
	if err != nil {
		t.Fatal(err)
	}
	reasons := regexp.MustCompile(`(?m)^### ([A-Z_]+)$`).FindAllStringSubmatch(string(text), -1)
	if len(reasons) < 15 {
		t.Errorf("%d reasons in docs/refusals.md", len(reasons))
	}
	for _, m := range reasons {
		f := call.NewFailure(refusal(t, codes.Unknown, "", &errdetails.ErrorInfo{Domain: "rolecall", Reason: m[1]}), "")
		if f.Hint == "" {
			t.Errorf("no hint for %s", m[1])
		}
	}
}
