package main

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	usersv1 "example.com/rolecall/gen/users/v1"
	"example.com/rolecall/interceptors"
	"example.com/rolecall/internal/certfile"
	"example.com/rolecall/internal/cli"
	"example.com/rolecall/internal/mesh"
	"example.com/rolecall/internal/node/nodetest"
)

// secretFile writes a file of mode 0600.
func secretFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte(text+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// password returns the password of a sample user.
func (m *meshUp) password(t *testing.T, username string) string {
	t.Helper()
	for _, u := range m.file.Users {
		if u.Username == username {
			return u.Password
		}
	}
	t.Fatalf("mesh.json has no user %s", username)
	return ""
}

// first runs the first login of a mesh: of two services that have just started one may not have found the other yet.
func (m *meshUp) first(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	for began := time.Now(); ; {
		code, stdout, stderr = m.run(t, args...)
		if !strings.Contains(stderr, "try again later") || time.Since(began) > nodetest.Patience {
			return code, stdout, stderr
		}
	}
}

// self asks users, as bob, on whose behalf a token speaks, and returns the answer or the reason of a refusal.
func (m *meshUp) self(t *testing.T, token string) (answer *usersv1.GetSelfResponse, reason string) {
	t.Helper()
	bob, _ := m.file.Operator("bob")
	service, _ := m.file.Service("users")
	source, err := certfile.Open(bob.Cert, bob.Key, m.file.Bundle)
	if err != nil {
		t.Fatal(err)
	}
	guard, err := interceptors.New(source, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer guard.Close()
	conn, err := guard.NewClient("passthrough:///"+service.Address, spiffeid.RequireFromString(service.ID))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	nodetest.Verifies(t, func() error { // a mesh that has just come up may not do so yet
		answer, err = usersv1.NewUsersServiceClient(conn).GetSelf(interceptors.AsUser(nodetest.Context(t), token), &usersv1.GetSelfRequest{})
		return err
	})
	if err != nil && nodetest.Reason(err) == "" {
		t.Errorf("GetSelf: %v", err)
	}
	return answer, nodetest.Reason(err)
}

// refused waits until a token is refused as revoked.
func (m *meshUp) refused(t *testing.T, token string) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for began := time.Now(); ; <-tick.C {
		if _, reason := m.self(t, token); reason == "USER_TOKEN_REVOKED" {
			t.Logf("refused after %s", time.Since(began).Round(time.Millisecond))
			return
		}
		if time.Since(began) > nodetest.Patience {
			t.Fatalf("the token is not refused within %s", nodetest.Patience)
		}
	}
}

func TestAUserLogsInAtATerminalAndOutAgain(t *testing.T) {
	t.Parallel()
	m := bringUp(t)
	dir := []string{"--dir", m.dir}
	login := func(args ...string) []string { return append(append([]string{"login"}, args...), dir...) }
	password := secretFile(t, m.password(t, "erin"))

	if code, stdout, stderr := m.run(t, login()...); code != cli.ExitFailed || stdout != "" || !strings.Contains(stderr, "rolecall login USER") {
		t.Errorf("before the login: %d, %q, %q", code, stdout, stderr)
	}
	code, stdout, stderr := m.first(t, login("erin", "--as", "bob", "--role", "orders.customer", "--role", "users.admin", "--password-file", password)...)
	first := strings.TrimSpace(stdout)
	if code != cli.ExitDone || strings.Count(first, ".") != 2 || strings.ContainsAny(first, " \n") {
		t.Fatalf("login: %d, %q, %s; want a token and nothing else", code, stdout, stderr)
	}
	for _, want := range []string{"erin is logged in with orders.customer", "erin does not hold users.admin"} {
		if !strings.Contains(stderr, want) {
			t.Errorf("%q is missing in %q", want, stderr)
		}
	}
	answer, reason := m.self(t, first)
	if reason != "" || answer.GetUser().GetUsername() != "erin" || answer.GetLoggedInThrough() != "spiffe://mesh.local/operator/bob" {
		t.Errorf("GetSelf: %v, %s", answer, reason)
	}
	if code, stdout, stderr := m.run(t, login()...); code != cli.ExitDone || strings.TrimSpace(stdout) != first || stderr != "" {
		t.Errorf("login again: %d, the same token: %v, %s", code, strings.TrimSpace(stdout) == first, stderr)
	}
	if code, stdout, _ := m.run(t, "inspect", secretFile(t, first)); code != cli.ExitDone || !strings.Contains(stdout, "access token") || !strings.Contains(stdout, "orders.customer") {
		t.Errorf("inspect: %d, %s", code, stdout)
	}
	if info, err := os.Stat(m.folder(t).Session()); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("session: %v, %v", info, err)
	}
	if findings, err := m.folder(t).CheckModes(); err != nil || len(findings) > 0 {
		t.Errorf("modes: %v, %v", findings, err)
	}
	if code, stdout, stderr := m.run(t, append([]string{"logout"}, dir...)...); code != cli.ExitDone || stdout != "erin is logged out\n" {
		t.Errorf("logout: %d, %q, %s", code, stdout, stderr)
	}
	m.refused(t, first)
	if _, err := os.Stat(m.folder(t).Session()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the session is still there: %v", err)
	}

	t.Run("with a wrong password", func(t *testing.T) {
		wrong := secretFile(t, "wrong password")
		code, stdout, stderr := m.run(t, login("dave", "--password-file", wrong)...)
		if code != cli.ExitFailed || stdout != "" || !strings.Contains(stderr, "the username or the password is wrong") || strings.Contains(stderr, "wrong password") {
			t.Errorf("%d, %q, %q", code, stdout, stderr)
		}
	})
	t.Run("through an operator who may not", func(t *testing.T) {
		code, _, stderr := m.run(t, login("erin", "--as", "carol", "--password-file", password)...)
		if code != cli.ExitFailed || !strings.Contains(stderr, "tokens.login") {
			t.Errorf("%d, %q", code, stderr)
		}
	})
	t.Run("with the password typed", func(t *testing.T) {
		p := newTerminal(t)
		typed := m.password(t, "dave")
		stdout, asked, err := p.at(t.Context(), []string{typed + "\n"}, login("dave")...)
		if err != nil || strings.Count(stdout, ".") != 2 || !strings.Contains(asked, "Password of dave: ") {
			t.Errorf("%v: %q, asked %q", err, stdout, asked)
		}
		if strings.Contains(p.screen()+asked, typed) || !p.echo() {
			t.Errorf("the password is shown: %q %q, or the terminal has no echo: %v", p.screen(), asked, p.echo())
		}
	})
	t.Run("where no mesh.json says whom to ask", func(t *testing.T) {
		bob, _ := m.file.Operator("bob")
		at, _ := m.file.Service("tokens")
		file := filepath.Join(t.TempDir(), "folder", "session.json")
		flags := []string{"--tokens", "passthrough:///" + at.Address + "," + at.ID, "--cert", bob.Cert, "--key", bob.Key, "--bundle", m.file.Bundle, "--session", file}
		code, stdout, stderr := m.run(t, append([]string{"login", "erin", "--password-file", password}, flags...)...)
		if code != cli.ExitDone {
			t.Fatalf("login: %d, %s", code, stderr)
		}
		elsewhere := strings.TrimSpace(stdout)
		code, stdout, stderr = m.run(t, append([]string{"login"}, flags...)...)
		if code != cli.ExitDone || strings.TrimSpace(stdout) != elsewhere {
			t.Errorf("login again: %d, %s", code, stderr)
		}
		if code, _, stderr := m.run(t, login("erin", "--password-file", password)...); code != cli.ExitDone {
			t.Fatalf("login here: %s", stderr)
		}
		if code, stdout, stderr := m.run(t, append([]string{"logout", "--everywhere"}, dir...)...); code != cli.ExitDone || !strings.Contains(stdout, "everywhere") {
			t.Errorf("logout: %d, %q, %s", code, stdout, stderr)
		}
		m.refused(t, elsewhere)
	})
	t.Run("from standard input", func(t *testing.T) {
		var out bytes.Buffer
		a := &app{out: cli.Plain(&out), in: strings.NewReader(m.password(t, "dave") + "\n"), questions: &bytes.Buffer{}}
		if err := a.run(t.Context(), login("dave", "--password-file", "-")); err != nil || strings.Count(out.String(), ".") != 2 {
			t.Errorf("%v, %q", err, out.String())
		}
	})
	m.stop()
	logs, err := filepath.Glob(filepath.Join(m.dir, "logs", "*"))
	if err != nil || len(logs) < 7 {
		t.Errorf("%d logs, %v", len(logs), err)
	}
	for _, log := range logs {
		text, err := os.ReadFile(log)
		if err != nil {
			t.Error(err)
		}
		for _, u := range m.file.Users {
			if bytes.Contains(text, []byte(u.Password)) {
				t.Errorf("the password of %s is in %s", u.Username, log)
			}
		}
		if regexp.MustCompile(`eyJ[\w-]+\.eyJ`).Match(text) {
			t.Errorf("a token is in %s", log)
		}
	}
}

func TestAFolderFromBeforeThereWereUsersIsCompleted(t *testing.T) {
	t.Parallel()
	m := bringUp(t)
	m.stop()
	dir := m.folder(t)
	for _, path := range []string{dir.Users(), filepath.Join(dir.Data(), "tokens.db"), filepath.Join(dir.Data(), "users.db")} {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	before, err := os.ReadFile(dir.Roles())
	if err != nil {
		t.Fatal(err)
	}
	again := bringUpIn(t, m.dir)
	if len(again.file.Users) != 2 || again.file.Users[0].Password == m.file.Users[0].Password {
		t.Errorf("%d users, with new passwords: %v", len(again.file.Users), len(again.file.Users) == 2)
	}
	after, err := os.ReadFile(dir.Roles())
	if err != nil || !bytes.Equal(before, after) {
		t.Errorf("roles.yaml was changed: %v", err)
	}
	password := secretFile(t, again.password(t, "dave"))
	if code, _, stderr := again.first(t, "login", "dave", "--dir", m.dir, "--password-file", password); code != cli.ExitDone {
		t.Errorf("login: %d, %s", code, stderr)
	}
	if _, err := mesh.Read(dir); err != nil {
		t.Error(err)
	}
}
