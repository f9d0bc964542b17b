package demo

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"example.com/rolecall/internal/cli"
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

// welcome says what is going to be shown, and how its commands work.
func (t *tour) welcome() {
	operators := relative(filepath.Dir(t.file.Operators[0].Cert))
	t.out.Printf("%s\n\n", t.out.Bold("What is the worst that Eve can do?"))
	t.out.Printf("A tour of the mesh in %s, of trust domain %s. It makes real calls to its services. To try them yourself, paste\nthis into a shell first:\n\n", relative(t.dir.Path()), t.file.TrustDomain)
	t.out.Printf("  %s\n\n", t.out.Cyan(fmt.Sprintf(`as() { who=$1; shift; grpcurl -cacert %s -cert %s/$who.crt -key %s/$who.key "$@"; }`,
		cli.Quote(relative(t.file.Bundle)), cli.Quote(operators), cli.Quote(operators))))
}

// scene begins a scene.
func (t *tour) scene(title string) {
	t.scenes++
	t.out.Printf("%s\n\n", t.out.Bold(fmt.Sprintf("%d. %s", t.scenes, title)))
}

// play makes an attempt and shows it. It returns whether it went as it should; the error is that of an interrupted tour.
func (t *tour) play(ctx context.Context, a attempt) (bool, error) {
	t.out.Printf("  %s\n", a.what)
	for line := range strings.Lines(a.command) {
		t.out.Printf("    $ %s\n", t.out.Cyan(strings.TrimSpace(line)))
	}
	within := a.within
	if within == 0 {
		within = patience
	}
	bounded, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	got := a.try(bounded)
	if ctx.Err() != nil {
		return false, fmt.Errorf("the tour was interrupted: %w", context.Cause(ctx))
	}
	return t.judge(got, a.want, a.why), nil
}

// judge shows an outcome beside the one that was to be expected.
func (t *tour) judge(got, want outcome, why string) bool {
	t.attempts++
	head, text := "← "+got.code, got.text
	if got.reason != "" {
		head += ", " + got.reason
	}
	if got.code == ok.code {
		head, text = t.out.Green(head), cut(text)
	} else {
		head = t.out.Yellow(cli.Clean(head) + ":")
	}
	t.out.Printf("    %s %s\n", head, cli.Clean(text))
	for _, line := range got.shown {
		t.out.Printf("    %s\n", t.out.Dim(cli.Clean(line)))
	}
	if got.noted != "" {
		t.out.Printf("    %s\n", cli.Clean(got.noted))
	}
	fits := got.code == want.code && got.reason == want.reason
	if fits {
		t.out.Printf("    %s\n\n", t.out.Dim(why))
		return true
	}
	t.wrong++
	expected := want.code
	if want.reason != "" {
		expected += " " + want.reason
	}
	t.out.Printf("    %s\n\n", t.out.Red("✗ this should have been: "+expected+". "+why))
	return false
}

// longest is how many characters of an answer are shown.
const longest = 110

func cut(text string) string {
	if r := []rune(text); len(r) > longest {
		return string(r[:longest-1]) + "…"
	}
	return text
}

// must is play for what the rest of the tour builds on.
func (t *tour) must(ctx context.Context, a attempt) error {
	fits, err := t.play(ctx, a)
	if err == nil && !fits {
		err = fmt.Errorf("the tour ends here, the rest needs %q to work", a.what)
	}
	return err
}
