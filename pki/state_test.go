package pki

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestStateIsReadStrictly(t *testing.T) {
	t.Parallel()
	const digest = `"0000000000000000000000000000000000000000000000000000000000000001"`
	for _, c := range []struct {
		attack, text, want string // "" for accepted
	}{
		{"a good one", `{"version":1,"sequence":7,"bundle_sha256":` + digest + `,"activated":{"2":"2031-05-03T10:00:00Z"},"revoked":{"1":{"at":"2031-05-03T10:00:00Z","reason":"stolen"}}}`, ""},
		{"nothing in it", ``, "not JSON"},
		{"half of it", `{"version":1,"seq`, "not JSON"},
		{"a version of tomorrow", `{"version":2,"new":{}}`, "version 2 is unknown"},
		{"no version", `{"sequence":1}`, "version 0 is unknown"},
		{"a field that nobody knows", `{"version":1,"sequence":1,"unrevoked":[1]}`, "unknown field"},
		{"a revocation that a duplicate key takes back", `{"version":1,"revoked":{"1":{"at":"2031-05-03T10:00:00Z","reason":"stolen"}},"revoked":{}}`, "twice"},
		{"two documents", `{"version":1}{"version":1}`, "more than one"},
		{"a negative sequence number", `{"version":1,"sequence":-1}`, "cannot unmarshal"},
		{"a sequence number after which there is none", `{"version":1,"sequence":18446744073709551615}`, "at most"},
		{"a digest that is too short", `{"version":1,"bundle_sha256":"00"}`, "64 hexadecimal digits"},
		{"a generation that is none", `{"version":1,"revoked":{"0":{"at":"2031-05-03T10:00:00Z","reason":"x"}}}`, "a generation from 1 on"},
		{"a revocation without a time", `{"version":1,"revoked":{"1":{"reason":"x"}}}`, "and a time are needed"},
		{"a phase that nobody knows", `{"version":1,"rotation":{"phase":"DONE"}}`, `phase "DONE" is unknown`},
		{"a rotation without its roots", `{"version":1,"rotation":{"phase":"PREPARED"}}`, "rotation"},
	} {
		t.Run(c.attack, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			must(t, os.WriteFile(filepath.Join(dir, stateFile), []byte(c.text), 0o600))
			_, err := (&Issuers{dir: dir}).readState()
			if (err == nil) != (c.want == "") || err != nil && (!strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "backup")) {
				t.Errorf("readState: %v, want an error with %q that says what to do", err, c.want)
			}
		})
	}
}

func TestStateIsReadAsItWasWritten(t *testing.T) {
	t.Parallel()
	s := &Issuers{dir: t.TempDir()}
	at := time.Date(2031, 5, 3, 10, 0, 0, 5, time.UTC)
	want := &storedState{Version: stateVersion, TrustDomain: testDomain, Sequence: maxSequence, BundleSHA256: Digest{1, 2},
		Activated: map[int]time.Time{7: at}, Revoked: map[int]storedRevoked{6: {At: at, Reason: "<stolen> & sold"}}}
	must(t, s.change(func(stored *storedState) { *stored = *want }))
	got, err := s.readState()
	must(t, err)
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(storedState{}), cmpopts.EquateComparable(testDomain), cmpopts.IgnoreFields(storedState{}, "digest")); diff != "" {
		t.Errorf("read back (-want +got):\n%s", diff)
	}
	if got.digest.IsZero() {
		t.Error("the file has no digest, by which a change is noticed")
	}
	if runtime.GOOS == "windows" {
		return
	}
	must(t, os.Chmod(filepath.Join(s.dir, stateFile), 0o644))
	if _, err := s.readState(); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("file mode 0644: %v, want a refusal with the chmod that repairs it", err)
	}
}

func TestReasonsAreOneLineOfText(t *testing.T) {
	t.Parallel()
	for reason, want := range map[string]string{
		"key seen in a public repository": "",
		"":                                "a reason is needed",
		strings.Repeat("x", 501):          "at most 500",
		"a\nforged line of the log":       "control character",
		"\x1b[2J":                         "control character",
		"\xff":                            "not UTF-8",
	} {
		err := checkReason(reason)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("checkReason(%.40q) = %v, want %q", reason, err, want)
		}
	}
}
