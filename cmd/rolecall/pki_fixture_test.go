package main

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"example.com/rolecall/internal/cli"
)

const passphrase = "correct horse battery staple"

// offline is a machine with a root and a machine with an authority, each a folder of one test.
type offline struct {
	t   *testing.T
	dir string
}

func newOffline(t *testing.T) *offline {
	t.Helper()
	o := &offline{t: t, dir: t.TempDir()}
	o.write("pass", passphrase+"\n", 0o600)
	return o
}

// path returns a path in the test's folder.
func (o *offline) path(name string) string { return filepath.Join(o.dir, name) }

func (o *offline) write(name, content string, mode os.FileMode) {
	o.t.Helper()
	if err := os.WriteFile(o.path(name), []byte(content), mode); err != nil {
		o.t.Fatal(err)
	}
	if err := os.Chmod(o.path(name), mode); err != nil { // whatever the umask is
		o.t.Fatal(err)
	}
}

// words splits a command line; a word that starts with @ is a path in the test's folder.
func (o *offline) words(line string) []string {
	words := strings.Fields(line)
	for i, w := range words {
		if name, ok := strings.CutPrefix(w, "@"); ok {
			words[i] = o.path(name)
		}
	}
	return words
}

// run runs a command line with something on standard input.
func (o *offline) run(stdin, line string) (code int, stdout, stderr string) {
	o.t.Helper()
	return rolecallIn(o.t, strings.NewReader(stdin), o.words(line)...)
}

// must runs a command line that goes well.
func (o *offline) must(line string) string {
	o.t.Helper()
	code, stdout, stderr := o.run("", line)
	if code != cli.ExitDone {
		o.t.Fatalf("%s: code %d, %s%s", line, code, stdout, stderr)
	}
	return stdout
}

// withIssuer makes root, authority and a first issuer.
func (o *offline) withIssuer() {
	o.t.Helper()
	o.must("pki init --root @root --trust-domain mesh.local --passphrase-file @pass")
	o.must("pki issuer csr --ca @ca --trust-domain mesh.local --out @issuer.csr")
	o.must("pki issuer sign --root @root --csr @issuer.csr --out @issuer.crt --passphrase-file @pass")
	o.must("pki issuer import --ca @ca --bundle @root/root.crt @issuer.crt")
}

// rolecallIn is rolecall with standard input.
func rolecallIn(t *testing.T, in io.Reader, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, questions bytes.Buffer
	errors, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	defer errors.Close()
	a := &app{out: cli.Plain(&out), in: in, questions: &questions}
	code = cli.Exit(errors, a.run(context.Background(), args))
	said, err := os.ReadFile(errors.Name())
	if err != nil {
		t.Fatal(err)
	}
	return code, out.String(), questions.String() + string(said)
}

// read returns a file of the test's folder.
func (o *offline) read(name string) (string, error) {
	data, err := os.ReadFile(o.path(name))
	return string(data), err
}
