package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"example.com/rolecall/internal/cli"
	"example.com/rolecall/internal/mesh"
	"example.com/rolecall/pki"
)

// rolecall runs a command line and returns the exit code, what it wrote, and what it said of its error.
func rolecall(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out bytes.Buffer
	errors, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	defer errors.Close()
	a := &app{out: cli.Plain(&out)}
	code = cli.Exit(errors, a.run(context.Background(), args))
	said, err := os.ReadFile(errors.Name())
	if err != nil {
		t.Fatal(err)
	}
	return code, out.String(), string(said)
}

func TestEveryCommandExplainsItself(t *testing.T) {
	t.Parallel()
	a := &app{out: cli.Plain(&bytes.Buffer{})}
	seen := 0
	each(a.root(), func(c *cobra.Command) {
		seen++
		if c.Short == "" || c.Long == "" && c.Example == "" {
			t.Errorf("%s: short %q, long %q, example %q: a short text is needed, and a long one or an example", c.CommandPath(), c.Short, c.Long, c.Example)
		}
		if strings.HasSuffix(c.Short, ".") {
			t.Errorf("%s: the short text ends with a full stop: %q", c.CommandPath(), c.Short)
		}
	})
	if seen < 16 {
		t.Errorf("only %d commands were seen", seen)
	}
}

func TestHelpOfEveryCommandIsNoError(t *testing.T) {
	t.Parallel()
	var paths []string
	a := &app{out: cli.Plain(&bytes.Buffer{})}
	each(a.root(), func(c *cobra.Command) { paths = append(paths, c.CommandPath()) })
	for _, path := range paths {
		args := append(strings.Fields(path)[1:], "--help")
		code, stdout, stderr := rolecall(t, args...)
		if code != cli.ExitDone || !strings.Contains(stdout, "Usage:") {
			t.Errorf("%s --help: code %d, %q, %q", path, code, stdout, stderr)
		}
		about, _, _ := strings.Cut(stdout, "Usage:")
		for line := range strings.Lines(about) {
			if len(strings.TrimSpace(line)) > 80 {
				t.Errorf("%s --help: this line is longer than a terminal is wide: %s", path, line)
			}
		}
	}
}

func TestWrongCommandLinesEndWithTwoAndSayWhy(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ line, want string }{
		{"bogus", "bogus"},
		{"--bogus", "--bogus"},
		{"up --bogus", "--bogus"},
		{"up extra", "extra"},
		{"up --leaf-ttl 1s", "--leaf-ttl"},
		{"up --database postgres://h/d --database-file f", "database-file"},
		{"serve", "arg"},
		{"serve bogus", "bogus"},
		{"serve ledger --listen a:1 --roles r --ca c", "--ca is for the authority"},
		{"serve ledger --listen a:1 --roles r --bundle-endpoint b:2", "--bundle-endpoint is for the authority"},
		{"serve authority --listen a:1 --roles r --ca c --bundle-endpoint b", "--bundle-endpoint"},
		{"serve authority --allow /a --registrations f", "registrations"},
		{"serve ledger --listen a:1 --roles r --access-ttl 1m", "--access-ttl is for tokens"},
		{"serve tokens --listen a:1 --roles r --access-ttl 1h", "1s to 10m"},
		{"serve users --listen a:1 --roles r", "--peer tokens="},
		{"serve orders --listen a:1 --roles r --peer users=u,spiffe://a.b/u", "--peer tokens="},
		{"up --access-ttl 1500ms", "--access-ttl"},
		{"login a b", "arg"},
		{"login --role orders.customer", "name the USER"},
		{"login --password-file f", "name the USER"},
		{"login a --tokens t,spiffe://a.b/t", "bundle"},
		{"login a --tokens t --cert c --key k --bundle b", "TARGET,SPIFFE-ID"},
		{"login a --tokens t,spiffe://a.b/t --cert c --key k --bundle b --as bob", "as"},
		{"logout extra", "extra"},
		{"agent", "required"},
		{"agent --trust-domain a.b --authority a,spiffe://a.b/a --credential c --bundle b --socket s --control c --federate a.b=f", "own trust domain"},
		{"agent --trust-domain a.b --authority a --credential c --bundle b --socket s --control c", "--authority"},
		{"up --federate a.b", "--federate"},
		{"up --bundle-endpoint a", "--bundle-endpoint"},
		{"run", "arg"},
		{"run --id spiffe://mesh.local/service/a", "arg"},
		{"run -- true", "id"},
		{"status extra", "extra"},
		{"status -o yaml", "table, json"},
		{"status --timeout 0s", "--timeout"},
		{"probe", "arg"},
		{"probe localhost:1 --timeout -1s", "--timeout"},
		{"probe localhost:1 --id x --service y", "give one of them"},
		{"inspect", "arg"},
		{"inspect a b", "arg"},
		{"inspect .", "is a folder"},
		{"inspect x -o table", "text, json"},
		{"pki bogus", "bogus"},
		{"pki issue", "required"},
		{"pki issue --id nonsense --cert a --key b", "--id"},
		{"pki issue --id spiffe://mesh.local/a --cert a --key b --ttl 1s", "--ttl"},
		{"pki issue --id spiffe://mesh.local/a --cert a --key ./a", "two files"},
		{"pki issue --id spiffe://mesh.local/a --cert a --key b --ip nonsense", "--ip"},
		{"pki bundle --dir a --ca b", "dir"},
		{"roles bogus", "bogus"},
		{"roles matrix -o text", "markdown"},
		{"roles check --roles a --dir b", "dir"},
		{"version extra", "extra"},
		{"demo extra", "extra"},
	} {
		t.Run(test.line, func(t *testing.T) {
			t.Parallel()
			code, _, stderr := rolecall(t, strings.Fields(test.line)...)
			if code != cli.ExitUsage || !strings.Contains(stderr, test.want) {
				t.Errorf("code %d and %q, want %d and something with %q", code, stderr, cli.ExitUsage, test.want)
			}
		})
	}
}

func TestCommandsWithoutAMeshSayHowToStartOne(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, line := range []string{
		"status", "run --id spiffe://mesh.local/service/a -- true", "roles matrix", "roles check", "pki bundle", "login dave", "login", "logout",
		"pki issue --id spiffe://mesh.local/a --cert a --key b", "demo",
	} {
		words := strings.Fields(line)
		at := 1
		if len(words) > 1 && !strings.HasPrefix(words[1], "-") {
			at = 2
		}
		args := append(append(append([]string{}, words[:at]...), "--dir", dir), words[at:]...)
		code, _, stderr := rolecall(t, args...)
		if code != cli.ExitFailed || !strings.Contains(stderr, "rolecall up") {
			t.Errorf("%s: code %d and %q, want %d and 'rolecall up'", line, code, stderr, cli.ExitFailed)
		}
	}
}

// authorityAt makes the files of a mesh that is not up.
func authorityAt(t *testing.T) mesh.Dir {
	t.Helper()
	d, err := mesh.Create(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := pki.OpenOrCreate(d.Path(), pki.Config{TrustDomain: spiffeid.RequireTrustDomainFromString("mesh.local")}); err != nil {
		t.Fatal(err)
	}
	return d
}

func TestWhatPKIIssuesInspectFindsGood(t *testing.T) {
	t.Parallel()
	d, out := authorityAt(t), t.TempDir()
	cert, key, bundle := filepath.Join(out, "dave.crt"), filepath.Join(out, "dave.key"), filepath.Join(out, "bundle.pem")
	issue := []string{"pki", "issue", "--dir", d.Path(), "--id", "spiffe://mesh.local/operator/dave", "--dns", "dave.internal", "--ip", "10.0.0.7", "--cert", cert, "--key", key}
	if code, stdout, stderr := rolecall(t, append(issue, "--ttl", "8h")...); code != 0 || !strings.Contains(stdout, "spiffe://mesh.local/operator/dave until ") {
		t.Fatalf("pki issue: code %d, %q, %q", code, stdout, stderr)
	}
	before, err := os.ReadFile(key)
	if err != nil {
		t.Fatal(err)
	}
	if code, stdout, stderr := rolecall(t, append(issue, "--ttl", "1000h")...); code != 0 || !strings.Contains(stdout, "ends sooner") {
		t.Errorf("pki issue again, for longer than an issuer gives: code %d, %q, %q", code, stdout, stderr)
	}
	if after, err := os.ReadFile(key); err != nil || !bytes.Equal(before, after) {
		t.Errorf("the key was replaced by a renewal, or cannot be read: %v", err)
	}
	if code, _, stderr := rolecall(t, "pki", "bundle", "--ca", d.Authority(), "--out", bundle); code != 0 {
		t.Errorf("pki bundle: code %d, %q", code, stderr)
	}
	for path, kind := range map[string]string{cert: "chain", key: "private key in the clear", bundle: "bundle (the roots that a verifier trusts)"} {
		code, stdout, stderr := rolecall(t, "inspect", path, "-o", "json")
		var inspection pki.Inspection
		if err := json.Unmarshal([]byte(stdout), &inspection); err != nil || code != 0 || inspection.Kind != kind {
			t.Errorf("inspect %s: code %d, kind %q, %v, %q; want %q", filepath.Base(path), code, inspection.Kind, err, stderr, kind)
		}
		if strings.Contains(stdout, "PRIVATE KEY") {
			t.Errorf("inspect shows the private key: %s", stdout)
		}
	}
	if code, _, stderr := rolecall(t, "pki", "issue", "--dir", d.Path(), "--id", "spiffe://other/operator/dave", "--cert", cert, "--key", key); code != cli.ExitUsage || !strings.Contains(stderr, "spiffe://mesh.local/operator/NAME") {
		t.Errorf("pki issue for another trust domain: code %d, %q", code, stderr)
	}
}

func TestInspectEndsWithOneIfSomethingIsWrong(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "file.pem")
	if err := os.WriteFile(path, []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, stdout, _ := rolecall(t, "inspect", path); code != cli.ExitFailed || !strings.Contains(stdout, "PROBLEM") {
		t.Errorf("a damaged certificate: code %d, %q", code, stdout)
	}
	if code, _, stderr := rolecall(t, "inspect", filepath.Join(t.TempDir(), "nothing")); code != cli.ExitFailed || stderr == "" {
		t.Errorf("no file: code %d, %q", code, stderr)
	}
}

func TestRolesAreShownAndCheckedFromAFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "roles.yaml")
	write := func(text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("trustDomain: mesh.local\nbindings:\n  - role: ledger.reader\n    members: [spiffe://mesh.local/operator/bob]\n")
	for output, want := range map[string]string{
		"table": "ledger.reader", "markdown": "| ledger.v1.LedgerService/GetBalance | ledger.reader | /operator/bob |", "json": `"callers": [`,
	} {
		if code, stdout, stderr := rolecall(t, "roles", "matrix", "--roles", path, "-o", output); code != 0 || !strings.Contains(stdout, want) {
			t.Errorf("roles matrix -o %s: code %d, %q; want %q in:\n%s", output, code, stderr, want, stdout)
		}
	}
	if code, stdout, stderr := rolecall(t, "roles", "check", "--roles", path); code != 0 || !strings.Contains(stdout, "no mistake") {
		t.Errorf("roles check: code %d, %q, %q", code, stdout, stderr)
	}
	write("trustDomain: mesh.local\nbindings:\n  - role: ledger.raeder\n    members: [spiffe://mesh.local/operator/bob]\n")
	if code, stdout, _ := rolecall(t, "roles", "check", "--roles", path); code != cli.ExitFailed || !strings.Contains(stdout, path+":3") || !strings.Contains(stdout, "--descriptors") {
		t.Errorf("roles check of a role that nobody defines: code %d, %q", code, stdout)
	}
	write("trustDomain: mesh.local\nbindings: [\n")
	if code, _, stderr := rolecall(t, "roles", "check", "--roles", path); code != cli.ExitFailed || !strings.Contains(stderr, path) {
		t.Errorf("roles check of a broken file: code %d, %q", code, stderr)
	}
}

func TestVersionIsKnown(t *testing.T) {
	t.Parallel()
	code, stdout, _ := rolecall(t, "version", "-o", "json")
	var b build
	if err := json.Unmarshal([]byte(stdout), &b); err != nil || code != 0 || b.Go == "" || b.GRPC == "" {
		t.Errorf("code %d, %q, %v", code, stdout, err)
	}
	if code, stdout, _ := rolecall(t, "version"); code != 0 || !strings.HasPrefix(stdout, "rolecall ") {
		t.Errorf("code %d, %q", code, stdout)
	}
}
