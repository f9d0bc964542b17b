//go:build unix

package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	tokensv1 "example.com/rolecall/gen/tokens/v1"
)

// TestLoginKeepsASessionUntilLogout is the only one that logs in by command on the shared mesh, whose folder has one session.
func TestLoginKeepsASessionUntilLogout(t *testing.T) {
	t.Parallel()
	running := sharedMesh(t)
	bob := running.caller(t, "bob")
	_, account := openAccounts(t, running.caller(t, "alice").ledger(t), "")
	user := running.newUser(t, "orders.customer", "orders.reader")
	file := filepath.Join(running.dir, "session.json")
	login := func(args ...string) string {
		t.Helper()
		stdout, stderr, code := running.rolecallWithInput(t, "", append([]string{"login"}, args...)...)
		if code != 0 {
			t.Fatalf("rolecall login %v: exit code %d\n%s", args, code, stderr)
		}
		return expectToken(t, stdout, stderr)
	}

	var stdout, stderr string
	var code int
	await(t, "a wrong password is answered", func() error {
		stdout, stderr, code = running.rolecallWithInput(t, "not the password\n", "login", user.Username, "--as", "bob", "--password-file", "-")
		if strings.Contains(stderr, "try again later") {
			return errors.New(stderr) // passwords are hashed a few at a time
		}
		return nil
	})
	if code != 1 || stdout != "" || !strings.Contains(stderr, "password") || strings.Contains(stderr, "not the password") {
		t.Errorf("a wrong password: exit code %d, output %q, want 1 and a word about it:\n%s", code, stdout, stderr)
	}
	if _, _, code := running.rolecallWithInput(t, "", "login"); code != 1 {
		t.Errorf("login without a user, and nobody is logged in: exit code %d, want 1", code)
	}
	var first string
	await(t, "the user is logged in", func() error {
		stdout, stderr, code := running.rolecallWithInput(t, user.Password+"\n", "login", user.Username, "--as", "bob", "--role", "orders.reader", "--password-file", "-")
		if code != 0 {
			return errors.New(stderr)
		}
		first = expectToken(t, stdout, stderr)
		return nil
	})
	accepted(t, bob.behalf(t, account, first))
	if info, err := os.Stat(file); err != nil || info.Mode() != 0o600 {
		t.Errorf("%s: %v, %v, want mode 0600", file, info, err)
	}
	kept := readSession(t, file)
	keepSecret(kept["refresh_token"].(string))
	if again := login(); again != first {
		t.Error("a second `rolecall login` prints another token, and the first has minutes to live")
	}

	t.Run("a token that is about to end is refreshed", func(t *testing.T) {
		kept["refresh_at"] = time.Now().Add(-time.Second).Format(time.RFC3339)
		writeSession(t, file, kept)
		next := login()
		if next == first {
			t.Fatal("it is the same token")
		}
		accepted(t, bob.behalf(t, account, next))
		if now := readSession(t, file); now["refresh_token"] == kept["refresh_token"] {
			t.Error("the session goes on with the refresh token that was used")
		} else {
			keepSecret(now["refresh_token"].(string))
		}
	})
	t.Run("a file that others can read is not used", func(t *testing.T) {
		if err := os.Chmod(file, 0o644); err != nil {
			t.Fatal(err)
		}
		stdout, stderr, code := running.rolecallWithInput(t, "", "login")
		if code != 1 || stdout != "" || !strings.Contains(stderr, "0644") {
			t.Errorf("exit code %d, output %q, want 1 and the mode:\n%s", code, stdout, stderr)
		}
		if err := os.Chmod(file, 0o600); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("logout revokes it", func(t *testing.T) {
		last := readSession(t, file)
		token := login()
		calls := bob.behalf(t, account, token)
		began := time.Now()
		if _, stderr, code := running.rolecallWithInput(t, "", "logout"); code != 0 {
			t.Fatalf("exit code %d\n%s", code, stderr)
		}
		ends(t, "logout", calls, began)
		if _, err := os.Stat(file); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v, want none", file, err)
		}
		expectEnded(t, bob, &tokensv1.TokenPair{RefreshToken: last["refresh_token"].(string)})
		if _, stderr, code := running.rolecallWithInput(t, "", "login"); code != 1 || !strings.Contains(stderr, "rolecall login") {
			t.Errorf("login afterwards: exit code %d, want 1 and the command that logs in\n%s", code, stderr)
		}
	})
	t.Run("carol's workload may not log users in", func(t *testing.T) {
		stdout, stderr, code := running.rolecallWithInput(t, user.Password+"\n", "login", user.Username, "--as", "carol", "--password-file", "-")
		if code != 1 || stdout != "" || !strings.Contains(stderr, codes.PermissionDenied.String()) && !strings.Contains(stderr, "role") {
			t.Errorf("exit code %d, output %q, want 1 and the role that is missing:\n%s", code, stdout, stderr)
		}
	})
}

// expectToken returns what is on standard output: an access token and nothing else.
func expectToken(t *testing.T, stdout, stderr string) string {
	t.Helper()
	token, ok := strings.CutSuffix(stdout, "\n")
	if !ok || strings.Count(token, ".") != 2 || strings.ContainsAny(token, " \n") {
		t.Fatalf("%d bytes on standard output are no token on a line", len(stdout))
	}
	if strings.Contains(stderr, token) {
		t.Error("the token is on standard error too")
	}
	keepTokens(&tokensv1.TokenPair{AccessToken: token, RefreshToken: token})
	return token
}

func readSession(t *testing.T, file string) map[string]any {
	t.Helper()
	var kept map[string]any
	if err := json.Unmarshal([]byte(readFile(t, file)), &kept); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return kept
}

func writeSession(t *testing.T, file string, kept map[string]any) {
	t.Helper()
	data, err := json.Marshal(kept)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// rolecallWithInput runs a command on the folder of the mesh, and returns its two outputs and its exit code.
func (m *runningMesh) rolecallWithInput(t *testing.T, input string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), upTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, m.program, append(args, "--dir", m.dir)...)
	var out, said bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(input), &out, &said
	if err := startCommand(cmd); err != nil {
		t.Fatalf("start %q: %v", args, err)
	}
	var exit *exec.ExitError
	if err := cmd.Wait(); err != nil && (!errors.As(err, &exit) || ctx.Err() != nil) {
		t.Fatalf("rolecall %q: %v\n%s", args, err, said.String())
	}
	return out.String(), said.String(), cmd.ProcessState.ExitCode()
}
