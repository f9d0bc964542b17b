package demo

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"example.com/rolecall/internal/cli"
	"example.com/rolecall/internal/up"
)

// preamble defines what the commands of the tour use in a shell. What they write goes into a new folder, $tmp.
func (t *tour) preamble() string {
	operators := cli.Quote(cli.Relative(filepath.Dir(t.file.Operators[0].Cert)))
	lines := []string{
		fmt.Sprintf(`as() { who=$1; shift; grpcurl -cacert %s -cert %s/$who.crt -key %[2]s/$who.key "$@"; }`, cli.Quote(cli.Relative(t.file.Bundle)), operators),
		`tmp=$(mktemp -d)`,
		`account() { sed -n 's/.*"accountId": "\(.*\)".*/\1/p'; }`,
	}
	if _, err := exec.LookPath("grpcurl"); err != nil {
		lines = append([]string{"alias grpcurl='go tool -modfile=tools/go.mod grpcurl'"}, lines...)
	}
	return strings.Join(lines, "\n")
}

// missingPrograms returns what the commands of the tour use beside grpcurl, and is not there.
func missingPrograms() []string {
	return slices.DeleteFunc([]string{"curl", "hexdump", "nc", "openssl", "perl", "socat", "xxd"}, func(name string) bool {
		_, err := exec.LookPath(name)
		return err == nil
	})
}

// named puts the variables that the commands of the tour set in the place of account numbers, which stand in quotes.
func (t *tour) named(command string) string {
	for _, account := range []struct{ name, id string }{{"bank", t.payer}, {"shop", t.shop}, {"purse", t.purse}} {
		if account.id != "" {
			command = strings.ReplaceAll(command, account.id, "'$"+account.name+"'")
		}
	}
	return command
}

// opening is the command that opens an account, and keeps its number for others.
func (t *tour) opening(variable string, request proto.Message) string {
	return variable + "=$(" + t.command("alice", openAccount, request) + " | account)"
}

// command returns a call as the command of the tour's own shell function, which welcome shows.
func (t *tour) command(who, method string, request proto.Message) string {
	return "as " + cli.Quote(who, "-d", compact(request), t.target(serviceOf(method)), strings.TrimPrefix(method, "/"))
}

// call returns a call of a method that wants a proof, which grpcurl cannot make: as an operator or, if who is empty, as
// whatever the shell is in the mesh.
func (t *tour) call(who, method string, request proto.Message, flags ...string) string {
	_, name, _ := strings.Cut(strings.TrimPrefix(method, "/"), "/")
	args := []string{"call", serviceOf(method) + "/" + name}
	if who != "" {
		args = append(args, "--as", who)
	}
	return t.rolecall(slices.Concat(args, []string{"-d", compact(request)}, flags)...)
}

// commandFor is command on behalf of a user, whose token is in a variable of the shell. The request may be nil.
func (t *tour) commandFor(variable, who, method string, request proto.Message) string {
	rest := []string{t.target(serviceOf(method)), strings.TrimPrefix(method, "/")}
	if request != nil {
		rest = append([]string{"-d", compact(request)}, rest...)
	}
	return fmt.Sprintf(`as %s -H "authorization: Bearer $%s" `, who, variable) + cli.Quote(rest...)
}

// serviceOf returns the name of a method's service: ledger for /ledger.v1.LedgerService/Transfer.
func serviceOf(method string) string {
	name, _, _ := strings.Cut(strings.TrimPrefix(method, "/"), ".")
	return name
}

// target is a service under a name that is in its certificate, for clients that compare names.
func (t *tour) target(name string) string {
	service, _ := t.file.Service(name)
	_, port, err := net.SplitHostPort(service.Address)
	if err != nil {
		return service.Address
	}
	return net.JoinHostPort("localhost", port)
}

// rolecall returns a command of rolecall on the mesh of the tour.
func (t *tour) rolecall(args ...string) string {
	if dir := cli.Relative(t.dir.Path()); dir != up.DefaultDir {
		args = append(args, "--dir", dir)
	}
	return cli.Quote(append([]string{program()}, args...)...)
}

// program is how a shell finds this program.
func program() string {
	path, err := os.Executable()
	if err != nil {
		return "rolecall"
	}
	if found, err := exec.LookPath("rolecall"); err == nil && found == path {
		return "rolecall"
	}
	return cli.Program(path)
}

// compact writes a message as JSON on one line. protojson varies its spaces on purpose.
func compact(message proto.Message) string {
	data, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(message)
	if err != nil {
		return err.Error()
	}
	var tree any
	if err := json.Unmarshal(data, &tree); err != nil {
		return err.Error()
	}
	var text strings.Builder
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(tree); err != nil {
		return err.Error()
	}
	return strings.TrimSpace(text.String())
}
