//go:build unix

package e2e_test

import (
	"crypto/rand"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestTheSearchOfTheLogsFindsSecrets makes sure that a search which finds nothing means something.
func TestTheSearchOfTheLogsFindsSecrets(t *testing.T) {
	t.Parallel()
	secret := rand.Text()
	keepSecret(secret)
	for _, test := range []struct {
		name, line string
		found      string // what the error says; empty: none
	}{
		{"an innocent line", `{"msg":"serving","service":"users"}`, ""},
		{"a password", `{"msg":"login of dave with ` + secret + `"}`, "log:2 holds secret"},
		{"a token that no test has used", `{"authorization":"Bearer eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJkYXZlIn0.c2ln"}`, "log:2 holds what looks like"},
		{"the hash of a password", `{"password":"$argon2id$v=19$m=65536,t=3,p=4$c2FsdA$c3Vt"}`, "log:2 holds what looks like"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			if err := os.Mkdir(filepath.Join(dir, "logs"), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, "logs", "users.log"), []byte("{}\n"+test.line+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			err := searchLogs(dir)
			switch {
			case test.found == "" && err != nil:
				t.Errorf("it found %v, want nothing", err)
			case test.found != "" && (err == nil || !strings.Contains(err.Error(), test.found)):
				t.Errorf("it found %v, want %q", err, test.found)
			case err != nil && strings.Contains(err.Error(), secret):
				t.Error("the error holds the secret itself")
			}
		})
	}
	if err := searchLogs(t.TempDir()); err == nil {
		t.Error("a folder without logs is no error")
	}
}
