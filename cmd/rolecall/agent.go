package main

import (
	"log/slog"
	"os"

	"github.com/spf13/cobra"
	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"example.com/rolecall/internal/agentd"
	"example.com/rolecall/internal/cli"
	"example.com/rolecall/internal/supervisor"
)

func (a *app) agentCommand() *cobra.Command {
	var config agentd.Config
	var trustDomain, authority string
	c := &cobra.Command{
		Use:   "agent",
		Short: "Serve the SPIFFE Workload API to the processes of this machine",
		Long: `Gives the processes of this machine their certificates, over a Unix socket. Which process has which identity is said by
registration entries (--entries), or by whoever started it, over the control socket. Keys are made here, stay in memory, and
the authority signs what the agent asks for.`,
		Example: `  rolecall agent --trust-domain mesh.local --authority dns:///authority:7441,spiffe://mesh.local/service/authority \
    --credential agent.pem --bundle bundle.pem --entries entries.yaml --socket agent.sock --control control.sock`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			var err error
			if config.TrustDomain, err = spiffeid.TrustDomainFromString(trustDomain); err != nil {
				return cli.Usagef("--trust-domain %q: %w", trustDomain, err)
			}
			peers, err := parsePeers([]string{"authority=" + authority})
			if err != nil {
				return cli.Usagef("--authority %q: the form is TARGET,SPIFFE-ID", authority)
			}
			config.Authority, config.AuthorityID = peers["authority"].Target, peers["authority"].ID
			config.Log = slog.New(slog.NewJSONHandler(os.Stderr, nil))
			ctx, err := supervisor.Attach(c.Context())
			if err != nil {
				return err
			}
			return agentd.Run(ctx, config)
		},
	}
	f := c.Flags()
	f.StringVar(&trustDomain, "trust-domain", "", "name of the trust domain (needed)")
	f.StringVar(&authority, "authority", "", "TARGET,SPIFFE-ID of the authority (needed)")
	f.StringVar(&config.Credential, "credential", "", "file with the agent's own certificate and key, which it renews (needed)")
	f.StringVar(&config.Bundle, "bundle", "", "file with the roots that the agent starts with (needed)")
	f.StringVar(&config.Entries, "entries", "", "registration entries; a file that is not there has none")
	f.StringVar(&config.Socket, "socket", "", "path of the Workload API's socket (needed)")
	f.StringVar(&config.Control, "control", "", "path of the control socket (needed)")
	f.BoolVar(&config.Shared, "shared", false, "let processes of other users connect to --socket; the entries still decide who gets what")
	for _, name := range []string{"trust-domain", "authority", "credential", "bundle", "socket", "control"} {
		if err := c.MarkFlagRequired(name); err != nil {
			panic(err)
		}
	}
	return c
}
