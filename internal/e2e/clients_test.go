//go:build unix

package e2e_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"example.com/rolecall/internal/mesh"
)

// clientTimeout bounds one run of a client.
const clientTimeout = time.Minute

// repository returns the root of the repository.
func repository(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatalf("find the repository: %v", err)
	}
	return dir
}

// lacking skips the test because something is not installed, and fails it where CI is to have everything.
func lacking(t *testing.T, format string, args ...any) {
	t.Helper()
	reason := fmt.Sprintf(format, args...) + "; scripts/clients installs it"
	if os.Getenv("CI") == "true" {
		t.Fatal(reason)
	}
	t.Skip(reason)
}

// tool returns the program of a tool that tools/go.mod pins.
func tool(t *testing.T, name string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "tool", "-modfile=tools/go.mod", "-n", name)
	cmd.Dir = repository(t)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("build %s: %v\n%s", name, err, stderr.String())
	}
	return strings.TrimSpace(string(out))
}

// ledgerClient calls the ledger as somebody, from the root of the repository.
type ledgerClient struct {
	t       *testing.T
	program []string
	env     []string
}

// run runs the client with arguments and returns what it printed, on both outputs. Whether it exits with an error is not
// looked at: a refused call may end either way.
func (c ledgerClient) run(args ...string) string {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), clientTimeout)
	defer cancel()
	out, _ := c.command(ctx, args).CombinedOutput()
	if ctx.Err() != nil {
		c.t.Fatalf("%q did not end within %s:\n%s", append(c.program, args...), clientTimeout, out)
	}
	return string(out)
}

// first runs the client until it has printed a line that contains want, and returns that line.
func (c ledgerClient) first(want string, args ...string) string {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), clientTimeout)
	defer cancel()
	cmd := c.command(ctx, args)
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		c.t.Fatalf("run %q: %v", cmd.Args, err)
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		c.t.Fatalf("run %q: %v", cmd.Args, err)
	}
	defer func() {
		cancel() // ends the client, whose stream would go on
		_ = cmd.Wait()
	}()
	for lines := bufio.NewScanner(stdout); lines.Scan(); {
		if strings.Contains(lines.Text(), want) {
			return lines.Text()
		}
	}
	cancel()
	c.t.Fatalf("%q ended without a line with %q\n%s", cmd.Args, want, stderr.String())
	return ""
}

func (c ledgerClient) command(ctx context.Context, args []string) *exec.Cmd {
	all := append(append([]string{}, c.program...), args...)
	cmd := exec.CommandContext(ctx, all[0], all[1:]...)
	cmd.Dir = repository(c.t)
	cmd.Env = append(os.Environ(), c.env...)
	return cmd
}

// result is what the programs in clients/ print.
type result struct {
	Watched  int64  `json:"watched,omitempty"`
	Imported int64  `json:"imported,omitempty"`
	Balance  int64  `json:"balance,omitempty"`
	Code     string `json:"code,omitempty"`
	Message  string `json:"message,omitempty"`
}

func (c ledgerClient) result(args ...string) result {
	c.t.Helper()
	out := c.run(args...)
	var r result
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		c.t.Fatalf("%q printed no JSON: %v\n%s", c.program, err, out)
	}
	return r
}

func TestClientsInEveryLanguageCallAsAliceAndAreRefusedAsCarol(t *testing.T) {
	t.Parallel()
	running := sharedMesh(t)
	service, ok := running.file.Service("ledger")
	if !ok {
		t.Fatal("mesh.json names no ledger")
	}
	_, port, _ := strings.Cut(service.Address, ":")
	address := "localhost:" + port

	for _, client := range []struct {
		name string
		call func(*testing.T, mesh.Operator) result
	}{
		{"Node with grpc-js", func(t *testing.T, who mesh.Operator) result {
			node, err := exec.LookPath("node")
			if err != nil {
				lacking(t, "Node is not installed")
			}
			if _, err := os.Stat(filepath.Join("clients", "node", "node_modules")); err != nil {
				lacking(t, "the Node client's packages are not installed")
			}
			c := ledgerClient{t: t, program: []string{node, "internal/e2e/clients/node/client.js"}}
			return c.result(address, running.file.Bundle, who.Cert, who.Key, "proto")
		}},
		{"Python with grpcio", func(t *testing.T, who mesh.Operator) result {
			const python = "/usr/bin/python3" // the one that the system's packages belong to
			if out, err := exec.CommandContext(t.Context(), python, "-c", "import grpc, google.protobuf").CombinedOutput(); err != nil {
				lacking(t, "python3 has no grpc or no google.protobuf (%v): %s", err, out)
			}
			protoc, err := exec.LookPath("protoc")
			if err != nil {
				lacking(t, "protoc is not installed")
			}
			stubs := t.TempDir()
			c := ledgerClient{t: t, program: []string{protoc, "-Iproto", "--python_out=" + stubs}}
			if out := c.run("rolecall/v1/access.proto", "ledger/v1/ledger.proto"); out != "" {
				t.Fatalf("protoc: %s", out)
			}
			c = ledgerClient{t: t, program: []string{python, "-B", "internal/e2e/clients/python/client.py"}}
			return c.result(address, running.file.Bundle, who.Cert, who.Key, stubs)
		}},
		{"grpcurl", func(t *testing.T, who mesh.Operator) result {
			return onCommandLine(t, commandLine{
				// With the proto files at hand it needs no reflection, which carol may not use.
				program: []string{tool(t, "grpcurl"), "-import-path", "proto", "-proto", "ledger/v1/ledger.proto",
					"-cacert", running.file.Bundle, "-cert", who.Cert, "-key", who.Key},
				data:   "-d",
				target: func(method string) []string { return []string{address, "ledger.v1.LedgerService/" + method} },
			})
		}},
		{"buf curl", func(t *testing.T, who mesh.Operator) result {
			return onCommandLine(t, commandLine{
				program: []string{tool(t, "buf"), "curl", "--protocol", "grpc", "--cacert", running.file.Bundle, "--cert", who.Cert, "--key", who.Key, "--schema", "proto"},
				data:    "--data",
				target: func(method string) []string {
					return []string{"https://" + address + "/ledger.v1.LedgerService/" + method}
				},
			})
		}},
	} {
		t.Run(client.name, func(t *testing.T) {
			t.Parallel()
			alice, carol := operator(t, running.file, "alice"), operator(t, running.file, "carol")
			want := result{Watched: 1250, Imported: 2, Balance: 1253}
			if diff := cmp.Diff(want, client.call(t, alice)); diff != "" {
				t.Errorf("as alice (-want +got):\n%s", diff)
			}
			got := client.call(t, carol)
			if !strings.EqualFold(strings.ReplaceAll(got.Code, "_", ""), "PermissionDenied") || !strings.Contains(got.Message, "lacks a role") {
				t.Errorf("as carol: %+v, want the code PERMISSION_DENIED and a message that says why", got)
			}
		})
	}
}

func operator(t *testing.T, f *mesh.File, name string) mesh.Operator {
	t.Helper()
	o, ok := f.Operator(name)
	if !ok {
		t.Fatalf("mesh.json names no operator %s", name)
	}
	return o
}

// commandLine is a client that makes one call for each run, JSON in and out.
type commandLine struct {
	program []string
	data    string
	target  func(method string) []string
}

// onCommandLine does what the programs in clients/ do, one command for each call.
func onCommandLine(t *testing.T, line commandLine) result {
	t.Helper()
	c := ledgerClient{t: t, program: line.program}
	args := func(method, request string) []string {
		return append([]string{line.data, request}, line.target(method)...)
	}

	open := func(request string) (string, string) {
		out := c.run(args("OpenAccount", request)...)
		var response struct {
			Account struct{ AccountID string }
		}
		if err := json.Unmarshal([]byte(out), &response); err != nil {
			return "", out
		}
		return response.Account.AccountID, out
	}
	from, out := open(withRequestID(`{"currency": "EUR", "allow_negative": true}`))
	if from == "" {
		return refusal(t, out)
	}
	to, out := open(withRequestID(`{"currency": "EUR"}`))
	if to == "" {
		t.Fatalf("OpenAccount, a second time: %s", out)
	}
	move := func(units int) string {
		return fmt.Sprintf(`{"from_account": %q, "to_account": %q, "amount": {"currency": "EUR", "minor_units": %d}}`, from, to, units)
	}
	if refused := refusal(t, c.run(args("Transfer", withRequestID(move(1)))...)); refused.Message != "the method is called with a signed proof of the request" {
		t.Errorf("a transfer without a proof: %+v", refused)
	}
	var r result
	c.run(args("ImportEntries", move(1250))...)
	watched := c.first("minorUnits", args("WatchEntries", fmt.Sprintf(`{"account_id": %q}`, to))...)
	if strings.Contains(watched, `"1250"`) {
		r.Watched = 1250
	}
	var imported struct{ Imported string }
	unmarshal(t, c.run(args("ImportEntries", move(1)+"\n"+move(2))...), &imported)
	r.Imported = number(t, imported.Imported)
	var balance struct{ Balance struct{ MinorUnits string } }
	unmarshal(t, c.run(args("GetBalance", fmt.Sprintf(`{"account_id": %q}`, to))...), &balance)
	r.Balance = number(t, balance.Balance.MinorUnits)
	return r
}

// withRequestID adds a request_id of its own to a request in JSON.
func withRequestID(request string) string {
	return fmt.Sprintf(`{"request_id": %q, %s`, uuid.NewString(), strings.TrimPrefix(request, "{"))
}

func unmarshal(t *testing.T, out string, into any) {
	t.Helper()
	if err := json.Unmarshal([]byte(out), into); err != nil {
		t.Fatalf("not the JSON that was expected: %v\n%s", err, out)
	}
}

func number(t *testing.T, text string) int64 {
	t.Helper()
	var n int64
	if _, err := fmt.Sscan(text, &n); err != nil {
		t.Fatalf("%q is no number: %v", text, err)
	}
	return n
}

// refusal reads the error of grpcurl ("  Code: PermissionDenied", "  Message: ...") and of buf curl (JSON).
func refusal(t *testing.T, out string) result {
	t.Helper()
	var fromBuf result
	if start := strings.Index(out, "{"); start >= 0 && json.Unmarshal([]byte(out[start:]), &fromBuf) == nil && fromBuf.Code != "" {
		return fromBuf
	}
	var r result
	for line := range strings.Lines(out) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), "Code: "); ok {
			r.Code = value
		}
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), "Message: "); ok {
			r.Message = value
		}
	}
	if r.Code == "" {
		t.Fatalf("neither an answer nor an error: %s", out)
	}
	return r
}
