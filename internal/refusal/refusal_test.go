package refusal_test

import (
	"errors"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"example.com/rolecall/internal/refusal"
)

func TestWhatARefusalSaysIsReadFromIt(t *testing.T) {
	t.Parallel()
	foreign, err := status.New(codes.Aborted, "no").WithDetails(&errdetails.ErrorInfo{Domain: "elsewhere", Reason: "RATE_LIMITED"})
	if err != nil {
		t.Fatal(err)
	}
	type said struct {
		code   codes.Code
		reason string
		wait   time.Duration
	}
	for name, test := range map[string]struct {
		err  error
		want said
	}{
		"that says when to come again": {refusal.New(codes.Unauthenticated, refusal.LoginRefused, "no", 3*time.Second), said{codes.Unauthenticated, "LOGIN_REFUSED", 3 * time.Second}},
		"for good":                     {refusal.New(codes.PermissionDenied, refusal.AccountNotOwned, "no", 0), said{codes.PermissionDenied, "ACCOUNT_NOT_OWNED", 0}},
		"over a limit":                 {refusal.Limited(t.Context(), "no", time.Minute), said{codes.ResourceExhausted, "RATE_LIMITED", time.Minute}},
		"of somebody else":             {foreign.Err(), said{codes.Aborted, "", 0}},
		"without details":              {status.Error(codes.NotFound, "no"), said{codes.NotFound, "", 0}},
		"that is no status":            {errors.New("no"), said{codes.Unknown, "", 0}},
		"none":                         {nil, said{}},
	} {
		if got := (said{status.Code(test.err), refusal.Reason(test.err), refusal.Wait(test.err)}); got != test.want {
			t.Errorf("%s: got %+v, want %+v", name, got, test.want)
		}
	}
}
