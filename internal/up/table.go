package up

import (
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"example.com/rolecall/internal/catalog"
	"example.com/rolecall/internal/cli"
	"example.com/rolecall/internal/status"
)

func pid() int { return os.Getpid() }

// table shows what runs and what to try next. Every line that starts with $ works as it is printed, from the folder that
// `up` was started in.
func (r *run) table() {
	out := r.config.Out
	out.Printf("\n%s is up after %.1f s, in %s\n\n", out.Bold(r.plan.td.Name()), time.Since(r.began).Seconds(), cli.Relative(r.dir.Path()))
	services := cli.Table{Header: []string{"SERVICE", "ADDRESS", "ADMIN", "PID", "SPIFFE ID"}}
	for _, name := range r.names() {
		at, admin := "", ""
		if p, ok := r.plan.ports[name]; ok {
			at, admin = address(p.service), address(p.admin)
		}
		services.Add(name, at, admin, strconv.Itoa(r.tasks[name].PID()), catalog.ID(r.plan.td, name).String())
	}
	services.Write(out)
	out.Println()
	people := cli.Table{Header: []string{"OPERATOR", "CERTIFICATE", "ROLES"}}
	for _, o := range r.operators.describe(r.policy) {
		roles := strings.Join(o.Roles, " ")
		if roles == "" {
			roles = out.Dim("none")
		}
		people.Add(o.Name, cli.Relative(o.Cert), roles)
	}
	people.Write(out)
	r.tableUsers()

	out.Printf("\n%s\n", out.Bold("Try, from another terminal"))
	r.try("alice may ask what the ledger serves", r.grpcurl("alice", "ledger", "list"))
	r.try("alice opens an account", r.rolecall("call", "ledger/OpenAccount", "-d", `{"currency": "EUR", "allow_negative": true}`))
	r.try("bob may read, and is refused what changes something", r.grpcurl("bob", "users", "-d", `{"user": {"username": "eve"}}`, "users.v1.UsersService/Create"))
	if through := loginOperator(r.policy, r.plan.td); len(r.users) > 0 && through != "" {
		user := r.users[0].Username
		r.try(user+" logs in, with the password above", r.rolecall("login", user, "--as", through))
		r.try("who is "+user+" to the services? (the token is always a fresh one)", r.onBehalf(r.grpcurl(through, "users", "users.v1.UsersService/GetSelf")))
	}
	r.try("a tour of what is allowed, what is refused, and why", r.rolecall("demo"))
	r.try("how everything stands", r.rolecall("status"))
	r.try("any program of yours, inside the mesh", r.rolecall("run", "--id", catalog.ID(r.plan.td, "billing").String(), "--", "CMD"))
	out.Printf("\nWho may do what stands in %s; edit it and the services follow within a second.\n", cli.Relative(r.dir.Roles()))
	out.Printf("Logs: %s\n", cli.Relative(r.dir.Log("SERVICE")))
	r.tellRoot()
	for _, notice := range r.notices {
		out.Printf("%s %s\n", out.Yellow("!"), notice)
	}
	out.Printf("Ctrl-C stops everything.\n")
}

// tableUsers shows the sample users. Their passwords are for development, like the whole mesh, and lie in mesh.json too.
func (r *run) tableUsers() {
	if len(r.users) == 0 {
		return
	}
	out := r.config.Out
	out.Println()
	users := cli.Table{Header: []string{"USER", "PASSWORD", "ROLES"}}
	for _, u := range r.users {
		users.Add(u.Username, u.Password, strings.Join(u.Roles, " "))
	}
	users.Write(out)
}

// tellRoot says where the root is, and, where it is not at hand, until when somebody must bring the next issuer.
func (r *run) tellRoot() {
	out := r.config.Out
	if !r.ca.HasRoot() {
		now := time.Now()
		out.Printf("%s %s\n", out.Yellow("The root:"), status.NewAct(r.ca.Issuers(), r.dir.Authority(), now).String(now))
		return
	}
	out.Printf("%s the root's key lies in %s, and its passphrase beside it. In production the root stays\n"+
		"on a machine without a network, each service runs on its own machine, and the agent attests by %s.\n",
		out.Yellow("Development only:"), cli.Relative(r.dir.Root()), filepath.Base(r.dir.Entries()))
}

func (r *run) try(what, command string) {
	out := r.config.Out
	out.Printf("  %s\n    $ %s\n", out.Dim("# "+what), out.Cyan(command))
}

// grpcurl returns a command line of grpcurl as an operator; args are the options and, last, the verb or method.
func (r *run) grpcurl(operator, service string, args ...string) string {
	cert, key := r.dir.OperatorCert(operator)
	_, port, _ := net.SplitHostPort(address(r.plan.ports[service].service))
	words := []string{"grpcurl", "-cacert", cli.Relative(r.dir.Bundle()), "-cert", cli.Relative(cert), "-key", cli.Relative(key)}
	words = append(words, args[:len(args)-1]...)
	return cli.Quote(append(words, net.JoinHostPort("localhost", port), args[len(args)-1])...)
}

// onBehalf makes a command line of grpcurl one that calls on behalf of who is logged in.
func (r *run) onBehalf(grpcurl string) string {
	return strings.Replace(grpcurl, "grpcurl ", `grpcurl -H "authorization: Bearer $(`+r.rolecall("login")+`)" `, 1)
}

// rolecall returns a command line of this binary, which may not be on the PATH.
func (r *run) rolecall(args ...string) string {
	words := []string{cli.Program(r.config.Executable), args[0]}
	if folder := cli.Relative(r.dir.Path()); folder != DefaultDir {
		words = append(words, "--dir", folder)
	}
	return cli.Quote(append(words, args[1:]...)...)
}

// DefaultDir is the folder of the mesh if --dir names no other.
const DefaultDir = ".rolecall"
