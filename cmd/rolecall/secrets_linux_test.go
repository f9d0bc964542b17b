package main

import (
	"bytes"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"example.com/rolecall/internal/catalog"
	"example.com/rolecall/internal/cli"
)

// secretsOf returns every secret that lies in files below a folder: passphrases, credentials, and the bodies of private keys,
// encrypted or not.
func secretsOf(t *testing.T, dir string) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // replaced while we looked
		}
		if err != nil || entry.IsDir() || !entry.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		name := entry.Name()
		if name == "passphrase" || name == "credential" || name == "pass" {
			found[path] = strings.TrimSpace(string(data))
		}
		for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
			if strings.HasSuffix(block.Type, "PRIVATE KEY") {
				body := pem.EncodeToMemory(block)
				found[path+" "+block.Type] = strings.Split(string(body), "\n")[2] // a line in the midst of it
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func leaks(t *testing.T, secrets map[string]string, where string, text []byte) {
	t.Helper()
	for of, secret := range secrets {
		if len(secret) < 8 {
			t.Errorf("the secret of %s is %q: too short to look for", of, secret)
		}
		if bytes.Contains(text, []byte(secret)) {
			t.Errorf("the secret of %s is in %s", of, where)
		}
	}
	if bytes.Contains(text, []byte("PRIVATE KEY-----")) {
		t.Errorf("a private key is in %s", where)
	}
}

// What 'rolecall up' runs shows no secret to whoever looks at its processes, and writes none into its logs.
func TestKeysAndPassphrasesAreNotInLogsArgumentsOrEnvironment(t *testing.T) {
	t.Parallel()
	m := bringUp(t)
	dir := m.dir
	secrets := secretsOf(t, dir)
	if len(secrets) < 8 {
		t.Errorf("only %d secrets were found: %v", len(secrets), secrets)
	}
	pids := []int{m.pid, m.file.Agent.PID}
	for _, s := range m.file.Services {
		pids = append(pids, s.PID)
	}
	for _, pid := range pids {
		for _, what := range []string{"cmdline", "environ"} {
			text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), what))
			if err != nil {
				t.Errorf("process %d: %v", pid, err)
			}
			leaks(t, secrets, fmt.Sprintf("%s of process %d", what, pid), text)
		}
	}
	// The commands of an operator write no secret either.
	for _, line := range [][]string{
		{"status", "-o", "json"}, {"pki", "issuer", "list", "-o", "json"}, {"pki", "root", "rotate", "status"}, {"pki", "bundle", "--format", "spiffe"},
		{"pki", "root", "rotate", "prepare"}, {"pki", "issuer", "csr"},
	} {
		code, stdout, stderr := m.run(t, append(line, "--dir", dir)...)
		if code != cli.ExitDone && line[0] != "status" {
			t.Errorf("%v: code %d, %s", line, code, stderr)
		}
		leaks(t, secretsOf(t, dir), strings.Join(line, " "), []byte(stdout+stderr))
	}
	m.stop()
	secrets = secretsOf(t, dir)
	leaks(t, secrets, "what up said", m.said.Bytes())
	logs, err := filepath.Glob(filepath.Join(dir, "logs", "*"))
	if err != nil || len(logs) < 6 {
		t.Errorf("%d logs, %v", len(logs), err)
	}
	for _, log := range append(logs, filepath.Join(dir, "authority", "state.json")) {
		text, err := os.ReadFile(log)
		if err != nil {
			t.Error(err)
		}
		leaks(t, secrets, filepath.Base(log), text)
	}
}

// A flag may name a file that holds a secret, and never take the secret itself.
func TestNoFlagTakesASecret(t *testing.T) {
	t.Parallel()
	secret := regexp.MustCompile(`pass|secret|token|key|credential`)
	files := []string{"passphrase-file", "new-passphrase-file", "password-file", "token-file", "key", "credential"}
	services := []string{catalog.Tokens, catalog.Keys}
	a := &app{out: cli.Plain(&bytes.Buffer{})}
	each(a.root(), func(c *cobra.Command) {
		c.Flags().VisitAll(func(f *pflag.Flag) {
			if secret.MatchString(f.Name) && !slices.Contains(files, f.Name) && !slices.Contains(services, f.Name) {
				t.Errorf("%s --%s: what does it take? Secrets come by prompt, file or standard input", c.CommandPath(), f.Name)
			}
			if slices.Contains(files, f.Name) && !strings.Contains(f.Usage, "file") {
				t.Errorf("%s --%s says not that it names a file: %q", c.CommandPath(), f.Name, f.Usage)
			}
		})
	})
}
