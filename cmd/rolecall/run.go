package main

import (
	"os"

	"github.com/spf13/cobra"

	"example.com/rolecall/internal/run"
)

func (a *app) runCommand() *cobra.Command {
	config := run.Config{Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr}
	c := &cobra.Command{
		Use:   "run --id SPIFFE-ID [flags] -- CMD ...",
		Short: "Run any program as a workload of the mesh",
		Long: `Runs a program inside the mesh that 'rolecall up' runs. The program, and whatever it starts itself, has the identity --id:
SPIFFE_ENDPOINT_SOCKET tells it where to get its certificate, which is good for localhost and for each --dns name as well.
Roles are given to the identity in roles.yaml, as to every other.

SIGINT, SIGTERM and SIGHUP are passed on, what the program leaves running ends with it, and its exit code is that of this
command: 128 and the signal's number if a signal ended it, 127 if it was not found, 126 if it could not be started.`,
		Example: `  rolecall run --id spiffe://mesh.local/service/billing -- go run ./examples/billing
  rolecall run --id spiffe://mesh.local/service/billing --dns billing -- ./billing --listen :7450`,
		Args: cobra.MinimumNArgs(1),
	}
	f := c.Flags()
	f.SetInterspersed(false) // the program's flags are its own, also without "--"
	f.StringVar(&config.ID, "id", "", "SPIFFE ID of the program, of the mesh's trust domain (needed)")
	f.StringArrayVar(&config.DNSNames, "dns", nil, "DNS name for the certificate, once for each; localhost is always in it")
	dir := dirFlag(c)
	needed(c, "id")
	c.RunE = func(c *cobra.Command, args []string) error {
		signals, stop := run.Signals()
		defer stop()
		config.Dir, config.Signals, config.Command = *dir, signals, args
		return run.Run(c.Context(), config)
	}
	return c
}
