package main

import (
	"bytes"
	"encoding/pem"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"example.com/rolecall/internal/cli"
	"example.com/rolecall/rolecalltest"
)

// operatorFiles writes the certificate of an operator, its key, and the bundle, and returns the flags that name them.
func operatorFiles(t *testing.T, name string) []string {
	t.Helper()
	ca := rolecalltest.NewCA(t, "mesh.local")
	svid, err := ca.Source("/operator/" + name).GetX509SVID()
	if err != nil {
		t.Fatal(err)
	}
	cert, key, err := svid.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	var roots bytes.Buffer
	for _, root := range ca.Bundle().X509Authorities() {
		if err := pem.Encode(&roots, &pem.Block{Type: "CERTIFICATE", Bytes: root.Raw}); err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	var flags []string
	for _, f := range []struct {
		flag string
		data []byte
	}{{"cert", cert}, {"key", key}, {"bundle", roots.Bytes()}} {
		path := filepath.Join(dir, f.flag)
		if err := os.WriteFile(path, f.data, 0o600); err != nil {
			t.Fatal(err)
		}
		flags = append(flags, "--"+f.flag, path)
	}
	return flags
}

// A session that another operator began would be taken for ended, and its file be removed.
func TestTheSessionOfAnotherOperatorIsLeftAlone(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "session.json")
	const stored = `{"username": "dave", "through": "spiffe://mesh.local/operator/bob", "refresh_token": "rolecall_secret"}`
	if err := os.WriteFile(file, []byte(stored), 0o600); err != nil {
		t.Fatal(err)
	}
	eve := append(operatorFiles(t, "eve"), "--tokens", "passthrough:///127.0.0.1:1,spiffe://mesh.local/service/tokens", "--session", file)
	for _, command := range [][]string{{"logout"}, {"logout", "--everywhere"}, {"login"}} {
		var out bytes.Buffer
		a := &app{out: cli.Plain(&out), questions: &bytes.Buffer{}}
		err := a.run(t.Context(), append(command, eve...))
		if err == nil || !strings.Contains(err.Error(), "was begun by spiffe://mesh.local/operator/bob") || strings.Contains(err.Error(), "secret") {
			t.Errorf("%v: got %v, want to be told who began it", command, err)
		}
		if there, err := os.ReadFile(file); err != nil || string(there) != stored {
			t.Errorf("%v: the file has changed: %v", command, err)
		}
	}
}

func TestSessionsWithDifferentMeshesHaveDifferentFiles(t *testing.T) {
	t.Parallel()
	here, there := spiffeid.RequireFromString("spiffe://mesh.local/service/tokens"), spiffeid.RequireFromString("spiffe://other.local/service/tokens")
	first := sessionFile("dns:///tokens:7444", here)
	if first != sessionFile("dns:///tokens:7444", here) {
		t.Error("one service has two files")
	}
	for name, other := range map[string]string{
		"another address": sessionFile("dns:///elsewhere:7444", here), "another trust domain": sessionFile("dns:///tokens:7444", there),
	} {
		if other == first || !fs.ValidPath(other) || filepath.Base(other) != other {
			t.Errorf("%s: the file is %s, that of the first %s", name, other, first)
		}
	}
}
