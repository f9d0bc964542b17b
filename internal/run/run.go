package run

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"golang.org/x/term"

	"example.com/rolecall/internal/cli"
	"example.com/rolecall/internal/mesh"
	"example.com/rolecall/pki/agent"
)

// Config says what to run, and as whom. All fields but DNSNames must be set.
type Config struct {
	Dir string // of the mesh
	// ID is the identity, of the mesh's own trust domain.
	ID string
	// DNSNames go into the certificate beside "localhost" and the loopback addresses, for the sake of programs that compare
	// names, such as grpcurl.
	DNSNames []string
	Command  []string
	// Stdin, Stdout and Stderr are the program's. Warnings go to Stderr too.
	Stdin, Stdout, Stderr *os.File
	// Signals are passed on to the program for as long as it runs; see Signals.
	Signals <-chan os.Signal
}

// Exit codes of a program that could not be started, as shells, env(1) and nohup(1) have them.
const (
	codeNotExecutable = 126
	codeNotFound      = 127
)

// Run runs the program to its end. The error is a *cli.CodeError with the program's exit code if that is not 0, with 128
// and the signal's number if a signal ended it, and with 126 or 127, after a line on Stderr, if it could not be started. Any
// other error means that the program was not started. Ctx ends what is done for the program beside it, not the program.
func Run(ctx context.Context, c Config) error {
	path, err := c.find()
	if err != nil {
		return err
	}
	dir, err := mesh.Open(c.Dir)
	if err != nil {
		return err
	}
	file, err := mesh.Read(dir)
	if err != nil {
		return err
	}
	registration, err := c.registration(file)
	if err != nil {
		return err
	}
	control := strings.TrimPrefix(file.Control, "unix://")
	registered, err := agent.Register(ctx, control, registration)
	if err != nil {
		if _, running, lockErr := mesh.Running(dir); lockErr == nil && !running {
			return fmt.Errorf("%w in %s, what it left behind says otherwise: start it with 'rolecall up'", mesh.ErrNotRunning, dir.Path())
		}
		return fmt.Errorf("join the mesh in %s: %w", dir.Path(), err)
	}
	out := cli.New(c.Stderr)
	if registered.Warning != "" {
		out.Printf("%s %s has no certificate yet: %s; the agent goes on trying\n", out.Yellow("rolecall:"), registration.ID, cli.Clean(registered.Warning))
	}
	log := slog.New(slog.NewTextHandler(c.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	keeping := keepIn(ctx, registered, dir, mesh.Program{ID: registration.ID.String(), PID: registration.PID, Command: c.Command, Started: time.Now().UTC()},
		func(ctx context.Context) { agent.KeepRegistered(ctx, control, registration, log) })
	err = c.program(path, file.WorkloadAPI)
	if leaveErr := keeping.end(); leaveErr != nil {
		log.Warn("mesh.json still names the program", "error", leaveErr)
	}
	return err
}

// find looks the program up before anything is registered for it.
func (c *Config) find() (string, error) {
	if len(c.Command) == 0 {
		return "", cli.Usagef("no program is named: rolecall run --id SPIFFE-ID -- CMD ...")
	}
	path, err := exec.LookPath(c.Command[0])
	if err == nil {
		return path, nil
	}
	code := codeNotFound
	if errors.Is(err, os.ErrPermission) {
		code = codeNotExecutable
	}
	out := cli.New(c.Stderr)
	out.Printf("%s cannot run %s: %v\n", out.Red("rolecall:"), cli.Quote(c.Command[0]), err)
	return "", &cli.CodeError{Code: code}
}

// registration is what the agent is told: this process, whose descendants are attested too.
func (c *Config) registration(file *mesh.File) (agent.Registration, error) {
	id, err := spiffeid.FromString(c.ID)
	if err != nil {
		return agent.Registration{}, cli.Usagef("--id %q: %w", c.ID, err)
	}
	if id.TrustDomain().Name() != file.TrustDomain || id.Path() == "" {
		return agent.Registration{}, cli.Usagef("--id %s: an ID of the mesh's own trust domain is needed, such as spiffe://%s/service/NAME", id, file.TrustDomain)
	}
	for _, name := range c.DNSNames {
		if name == "" || len(name) > 253 || strings.ContainsAny(name, "/:@ *") {
			return agent.Registration{}, cli.Usagef("--dns %q: a DNS name is needed, such as billing.internal", name)
		}
	}
	pid := os.Getpid()
	started, err := agent.StartTime(pid)
	if err != nil {
		return agent.Registration{}, fmt.Errorf("register this process: %w", err)
	}
	return agent.Registration{
		ID: id, PID: pid, StartTime: started,
		DNSNames:    append([]string{"localhost"}, c.DNSNames...),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}, nil
}

// program runs the program and returns how it ended.
func (c *Config) program(path, workloadAPI string) error {
	cmd := exec.Command(path, c.Command[1:]...)
	cmd.Args[0] = c.Command[0]
	cmd.Env = append(without(os.Environ(), socketVariable), socketVariable+"="+workloadAPI)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = c.Stdin, c.Stdout, c.Stderr
	err := start(cmd, term.IsTerminal(int(c.Stdin.Fd())), c.Signals)
	var exit *exec.ExitError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &exit):
		return &cli.CodeError{Code: exitCode(exit)}
	}
	out := cli.New(c.Stderr)
	out.Printf("%s cannot run %s: %v\n", out.Red("rolecall:"), cli.Quote(c.Command[0]), err)
	return &cli.CodeError{Code: codeNotExecutable}
}

// socketVariable names the Workload API to every SPIFFE library (SPIFFE Workload Endpoint §4).
const socketVariable = "SPIFFE_ENDPOINT_SOCKET"

func without(env []string, variable string) []string {
	var kept []string
	for _, entry := range env {
		if !strings.HasPrefix(entry, variable+"=") {
			kept = append(kept, entry)
		}
	}
	return kept
}
