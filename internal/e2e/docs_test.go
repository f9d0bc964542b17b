//go:build unix

package e2e_test

import (
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"example.com/rolecall/internal/e2e/console"
)

// documentedPorts are those of a mesh that was brought up without --base-port, as the documents show it.
var documentedPorts = map[string]string{"authority": "7441", "keys": "7442", "users": "7443", "tokens": "7444", "ledger": "7445", "orders": "7446"}

// ledgerAdminPort is the ledger's admin port in the documents.
const ledgerAdminPort = "7545"

// TestDocumentsShowWhatTheMeshReallyPrints types the commands of documents that begin with `make up` into one shell and one
// mesh, as somebody does who reads one after the other, goes back to one of them, and ends with the demo.
func TestDocumentsShowWhatTheMeshReallyPrints(t *testing.T) {
	t.Parallel()
	running := startMesh(t)
	real, documented := ports(t, running)
	session := startSession(t, map[string]string{".rolecall": running.dir})
	// Somebody who reads comes later than the services of a mesh that has just come up find each other.
	bob, erin := running.caller(t, "bob"), running.sampleUser(t, "erin")
	account, _ := purse(t, running.caller(t, "alice"), erin)
	accepted(t, bob.behalf(t, account, bob.login(t, erin).GetAccessToken()))
	for _, name := range []string{"README.md", "docs/proofs.md", "docs/exactly-once.md", "docs/users.md", "docs/how-a-call-is-secured.md"} {
		t.Run(name, func(t *testing.T) { typed(t, session, name, real, documented) })
	}
	for _, name := range []string{"docs/proofs.md", "docs/exactly-once.md", "docs/users.md"} {
		t.Run(name+" once more", func(t *testing.T) { typed(t, session, name, real, documented) })
	}
	t.Run("rolecall demo", func(t *testing.T) {
		if out, code := running.rolecall(t, "demo"); code != 0 {
			t.Errorf("exit code %d:\n%s", code, out)
		}
	})
}

// TestRunbooksDoWhatTheySay types the commands of the page on the certificate authority, and those of the runbooks, which
// go on where it ends.
func TestRunbooksDoWhatTheySay(t *testing.T) {
	t.Parallel()
	session := startSession(t, nil)
	var to, from []string
	for _, documented := range []string{"7441", "7445", "7541", "7545"} {
		free := port(t, freeAddress(t))
		to = append(to, ":"+documented, ":"+free)
		from = append(from, ":"+free, ":"+documented)
	}
	for _, name := range []string{"docs/pki.md", "docs/operate.md"} {
		if typed(t, session, name, strings.NewReplacer(to...), strings.NewReplacer(from...)); t.Failed() {
			return
		}
	}
}

// startSession starts a shell in a new folder with what the documents use, and more by name.
func startSession(t *testing.T, links map[string]string) *console.Session {
	t.Helper()
	for _, program := range []string{"openssl", "curl", "sh"} {
		if _, err := exec.LookPath(program); err != nil {
			lacking(t, "%s is not installed", program)
		}
	}
	dir := shortTempDir(t) // sockets lie in it
	all := map[string]string{"bin/rolecall": buildRolecall(t), "bin/grpcurl": tool(t, "grpcurl"), "proto": filepath.Join(repository(t), "proto")}
	maps.Copy(all, links)
	for link, target := range all {
		link = filepath.Join(dir, filepath.FromSlash(link))
		if err := os.MkdirAll(filepath.Dir(link), 0o700); err != nil {
			t.Fatalf("make the working directory: %v", err)
		}
		if err := os.Symlink(target, link); err != nil {
			t.Fatalf("make the working directory: %v", err)
		}
	}
	tmp := filepath.Join(dir, "tmp") // where mktemp makes folders
	if err := os.Mkdir(tmp, 0o700); err != nil {
		t.Fatalf("make the working directory: %v", err)
	}
	session, err := console.Start(dir, append(os.Environ(), "PATH="+filepath.Join(dir, "bin")+":"+os.Getenv("PATH"), "TMPDIR="+tmp, "NO_COLOR=1"))
	if err != nil {
		t.Fatalf("start a shell: %v", err)
	}
	t.Cleanup(session.Close)
	t.Cleanup(func() {
		var logs []string
		for _, folder := range []string{dir, filepath.Join(dir, "*"), filepath.Join(tmp, "*")} {
			found, _ := filepath.Glob(filepath.Join(folder, "*.log"))
			logs = append(logs, found...)
		}
		for _, log := range logs {
			if data, err := os.ReadFile(log); err == nil && t.Failed() {
				t.Logf("%s ends with\n%s", log, data[max(0, len(data)-4000):])
			}
		}
	})
	return session
}

// typed gives the session all commands of a document, one after the other, and compares what they print.
func typed(t *testing.T, session *console.Session, name string, real, documented *strings.Replacer) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(repository(t), filepath.FromSlash(name)))
	if err != nil {
		t.Fatalf("read %s: %v", name, err)
	}
	commands, err := console.Parse(string(text))
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	if len(commands) == 0 {
		t.Fatalf("%s shows no command", name)
	}
	for _, command := range commands {
		text := real.Replace(command.Text)
		out := documented.Replace(enter(t, session, name, command.Line, text))
		for began := time.Now(); !command.Matches(out) && reads(text) && time.Since(began) < patience; {
			out = documented.Replace(enter(t, session, name, command.Line, text))
		}
		if !command.Matches(out) {
			t.Errorf("%s:%d: $ %s\n--- prints\n%s\n--- is said to print\n%s", name, command.Line, command.Text, out, strings.Join(command.Want, "\n"))
		} else {
			t.Logf("%s:%d: $ %s\n%s", name, command.Line, command.Text, out)
		}
	}
}

// reads tells whether a command only looks at something that is written a moment later, by another process.
func reads(command string) bool {
	return strings.HasPrefix(command, "grep ") || strings.HasPrefix(command, "curl ")
}

// enter gives the session one command.
func enter(t *testing.T, session *console.Session, document string, line int, command string) string {
	t.Helper()
	out, err := session.Run(t.Context(), command)
	if err != nil {
		t.Fatalf("%s:%d: %v\n%s", document, line, err, out)
	}
	return out
}

// ports returns what puts the ports of the running mesh into a command of a document, and what takes them out of its output.
func ports(t *testing.T, running *runningMesh) (real, documented *strings.Replacer) {
	t.Helper()
	var to, from []string
	add := func(port, address string) {
		_, actual, err := net.SplitHostPort(address)
		if err != nil {
			t.Fatalf("mesh.json: address %q: %v", address, err)
		}
		to = append(to, ":"+port, ":"+actual)
		from = append(from, ":"+actual, ":"+port)
	}
	for name, port := range documentedPorts {
		service, ok := running.file.Service(name)
		if !ok {
			t.Fatalf("mesh.json names no %s", name)
		}
		add(port, service.Address)
		if name == "ledger" {
			add(ledgerAdminPort, service.Admin)
		}
	}
	return strings.NewReplacer(to...), strings.NewReplacer(from...)
}
