package session_test

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	tokensv1 "example.com/rolecall/gen/tokens/v1"
	"example.com/rolecall/internal/node/nodetest"
	"example.com/rolecall/internal/session"
	"example.com/rolecall/services/tokens"
)

func TestTheFileIsItsOwnersAlone(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("no modes there")
	}
	d := newDesk(t, tokens.Config{})
	d.login(t)
	for _, path := range []string{d.path, d.path + ".lock"} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v, want mode 0600", path, info, err)
		}
	}
	if info, err := os.Stat(filepath.Dir(d.path)); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the folder that was made: %v, %v, want mode 0700", info, err)
	}
	if err := os.Chmod(d.path, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := d.session.Fresh(nodetest.Context(t)); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("a file that others may read: %v, want an error with the way out", err)
	}
	d.login(t) // makes a new one
	if _, err := d.session.Fresh(nodetest.Context(t)); err != nil {
		t.Errorf("after another login: %v", err)
	}
}

func TestAFileThatIsNoSessionIsToldOfWithoutItsContent(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "session.json")
	for name, content := range map[string]string{
		"no JSON": "secret", "no refresh token": `{"access_token": "secret"}`, "an empty file": "", "a huge file": `{"refresh_token": "secret"}` + strings.Repeat(" ", 65<<10),
	} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := session.Read(path); err == nil || strings.Contains(err.Error(), "secret") || !strings.Contains(err.Error(), "log in again") {
			t.Errorf("%s: %v, want an error with the next step and nothing of the content", name, err)
		}
	}
}

func TestAnotherLoginEndsTheSessionThatOthersCouldRead(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("no modes there")
	}
	d := newDesk(t, tokens.Config{})
	leaked := d.login(t)
	if err := os.Chmod(d.path, 0o644); err != nil {
		t.Fatal(err)
	}
	d.login(t)
	_, err := d.client.TokensServiceClient.Refresh(nodetest.Context(t), &tokensv1.RefreshRequest{RefreshToken: leaked.RefreshToken})
	if nodetest.Reason(err) != "SESSION_ENDED" {
		t.Errorf("the token that others could read: got %v, want SESSION_ENDED", err)
	}
}
