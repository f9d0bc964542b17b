//go:build unix

package e2e_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"example.com/rolecall/internal/cli"
	"example.com/rolecall/internal/demo"
)

func TestDemoShowsWhatItPromisesAndGivesTheBindingsBack(t *testing.T) {
	t.Parallel()
	running := startMesh(t)
	original, err := os.ReadFile(running.file.Roles)
	if err != nil {
		t.Fatal(err)
	}
	unchanged := func(t *testing.T) {
		t.Helper()
		now, err := os.ReadFile(running.file.Roles)
		if err != nil || !bytes.Equal(now, original) {
			t.Errorf("roles.yaml is not what it was: %v\n%s", err, now)
		}
		if _, err := os.Stat(running.file.Roles + ".before-demo"); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the copy of roles.yaml: %v, want none", err)
		}
	}
	// The subtests follow each other: all edit roles.yaml.
	t.Run("it exits 0", func(t *testing.T) {
		out, code := running.rolecall(t, "demo")
		if code != 0 {
			t.Errorf("exit code %d:\n%s", code, out)
		}
		for _, want := range []string{"OK", "ROLE_REQUIRED", "untrusted", "no_certificate", "not_tls", "tls_version",
			"LOGIN_REFUSED", "USER_REQUIRED", "USER_ROLE_REQUIRED", "USER_TOKEN_REVOKED", "SESSION_ENDED",
			"nothing to read", "bad record MAC", "DEADLINE_EXCEEDED", "PROOF_REQUIRED", "PROOF_INVALID", "PROOF_EXPIRED", "PROOF_REPLAYED",
			"PROOF_SIGNER_UNKNOWN", "REQUEST_ID_REUSED", "ACCOUNT_NOT_OWNED", "went as they should"} {
			if !strings.Contains(out, want) {
				t.Errorf("it says nothing of %q:\n%s", want, out)
			}
		}
		if strings.Contains(out, "\x1b[") {
			t.Error("it is coloured, and its output is no terminal")
		}
		for _, u := range running.file.Users {
			if strings.Contains(out, u.Password) {
				t.Errorf("it shows the password of %s", u.Username)
			}
		}
		if looksSecret.MatchString(out) {
			t.Error("it shows a token")
		}
		if files := regexp.MustCompile(`[ @<>]\w+\.(json|bin|key|crt)\b[^ ]*`).FindAllString(out, -1); len(files) > 0 {
			t.Errorf("its commands leave files in the current folder: %q", files)
		}
		if strings.Contains(out, "$ as carol ") {
			t.Error("grpcurl asks a server what it serves, which carol may not")
		}
		unchanged(t)
	})
	t.Run("interrupted while a role is taken away it gives it back", func(t *testing.T) {
		ctx, interrupt := context.WithCancel(t.Context())
		defer interrupt()
		// The ledger needs milliseconds to act on the edit, so that nobody who looks from outside is sure to see it.
		away := false
		said := writerFunc(func(p []byte) (int, error) {
			if strings.Contains(string(p), "bob's stream") {
				now, err := os.ReadFile(running.file.Roles)
				away = err == nil && !bytes.Equal(now, original)
				interrupt()
			}
			return len(p), nil
		})
		if err := demo.Run(ctx, demo.Config{Dir: running.dir, Out: cli.Plain(said)}); !errors.Is(err, context.Canceled) || !away {
			t.Errorf("it ended with %v, want an interruption; the role was taken away by then: %t", err, away)
		}
		unchanged(t)
	})
	t.Run("what a killed one has left is given back by the next", func(t *testing.T) {
		const marker = "# rolecall demo has taken a role away here"
		edited := marker + " for a moment; what stood here before is in the file beside it.\n" + strings.Replace(string(original), bobsRole, "", 1)
		if err := os.WriteFile(running.file.Roles+".before-demo", original, 0o600); err != nil {
			t.Fatal(err)
		}
		writeRoles(t, running, edited)
		if out, code := running.rolecall(t, "demo"); code != 0 {
			t.Errorf("exit code %d:\n%s", code, out)
		}
		unchanged(t)
	})
	t.Run("bindings that it cannot show anything with are left alone", func(t *testing.T) {
		writeRoles(t, running, strings.Replace(string(original), bobsRole, "", 1))
		defer writeRoles(t, running, string(original))
		out, code := running.rolecall(t, "demo")
		if code != 1 || !strings.Contains(out, "bob") {
			t.Errorf("exit code %d, want 1 and a word about bob:\n%s", code, out)
		}
	})
	t.Run("a sample user with another password is named, and how to set the old one", func(t *testing.T) {
		request := filepath.Join(t.TempDir(), "request.json")
		if err := os.WriteFile(request, []byte(`{"username": "dave", "password": "not what the file says"}`), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, code := running.rolecall(t, "call", "users/SetPassword", "-d", "@"+request); code != 0 {
			t.Fatalf("exit code %d:\n%s", code, out)
		}
		out, code := running.rolecall(t, "demo")
		if code != 1 || !strings.Contains(out, "dave has another password than") || !strings.Contains(out, "users/SetPassword") {
			t.Errorf("exit code %d, want 1 and a word about dave's password:\n%s", code, out)
		}
	})
}

// writerFunc is what is done with all that is written.
type writerFunc func([]byte) (int, error)

// Write implements io.Writer.
func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func TestStatusExitsOneWhenSomebodyMustAct(t *testing.T) {
	t.Parallel()
	running := startMesh(t)
	expect := func(code int, words ...string) {
		t.Helper()
		out, got := running.rolecall(t, "status", "--timeout", patience.String())
		if got != code {
			t.Errorf("exit code %d, want %d:\n%s", got, code, out)
		}
		for _, word := range words {
			if !strings.Contains(out, word) {
				t.Errorf("it says nothing of %q:\n%s", word, out)
			}
		}
	}
	expect(0, "ledger", "agent")
	key := operator(t, running.file, "alice").Key
	if err := os.Chmod(key, 0o644); err != nil {
		t.Fatal(err)
	}
	expect(1, key)
	if err := os.Chmod(key, 0o600); err != nil {
		t.Fatal(err)
	}
	expect(0)
	original, err := os.ReadFile(running.file.Roles)
	if err != nil {
		t.Fatal(err)
	}
	writeRoles(t, running, string(original)+"surprise: true\n")
	await(t, "the ledger has seen the broken bindings", func() error {
		if readyz(t, running).Policy.Error == "" {
			return errors.New("/readyz has no error of the policy")
		}
		return nil
	})
	expect(1, "roles.yaml")
	writeRoles(t, running, string(original))
	if err := running.stop(); err != nil {
		t.Errorf("rolecall up, interrupted: %v", err)
	}
	expect(1)
}
