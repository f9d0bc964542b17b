package main

import (
	"context"
	"log/slog"
	"os"

	"github.com/spf13/cobra"

	"example.com/rolecall/internal/agentd"
	"example.com/rolecall/internal/cli"
	"example.com/rolecall/internal/supervisor"
)

// agentFlags are what a command line says about an agent.
type agentFlags struct {
	config                       agentd.Config
	trustDomain, authority, join string
	federate                     []string
}

func (a *app) agentCommand() *cobra.Command {
	var flags agentFlags
	c := &cobra.Command{
		Use:   "agent",
		Short: "Serve the SPIFFE Workload API to the processes of this machine",
		Long: `Gives the processes of this machine their certificates, over a Unix socket. Which process has which identity is said by
registration entries (--entries), or by whoever started it, over the control socket. Keys are made here, stay in memory, and
the authority signs what the agent asks for.

The agent's own certificate is in --credential, and it renews it. On a machine that joins, --join trades a ticket of 'rolecall
pki ticket' for the first one; a certificate that is there already, and good, is used as it is.`,
		Example: `  rolecall agent --trust-domain mesh.local --authority dns:///authority:7441,spiffe://mesh.local/service/authority \
    --credential agent.pem --bundle bundle.pem --entries entries.yaml --socket agent.sock --control control.sock
  rolecall agent --join host2.ticket --trust-domain mesh.local --authority dns:///authority:7441,spiffe://mesh.local/service/authority \
    --credential agent.pem --bundle bundle.pem --entries entries.yaml --socket agent.sock --control control.sock`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := flags.parse(); err != nil {
				return err
			}
			ctx, err := supervisor.Attach(c.Context())
			if err != nil {
				return err
			}
			return flags.run(ctx)
		},
	}
	f := c.Flags()
	f.StringVar(&flags.trustDomain, "trust-domain", "", "name of the trust domain (needed)")
	f.StringVar(&flags.authority, "authority", "", "TARGET,SPIFFE-ID of the authority (needed)")
	f.StringVar(&flags.config.Credential, "credential", "", "file with the agent's own certificate and key, which it renews (needed)")
	f.StringVar(&flags.config.Bundle, "bundle", "", "file with the roots that the agent starts with (needed)")
	f.StringVar(&flags.join, "join", "", "ticket of 'rolecall pki ticket', which gets this machine's agent its first certificate; it writes --credential and --bundle")
	f.StringVar(&flags.config.Entries, "entries", "", "registration entries, read again when they change; a file that is not there has none")
	f.StringArrayVar(&flags.federate, "federate", nil, federateUsage)
	f.StringVar(&flags.config.Socket, "socket", "", "path of the Workload API's socket (needed)")
	f.StringVar(&flags.config.Control, "control", "", "path of the control socket (needed)")
	f.BoolVar(&flags.config.Shared, "shared", false, "let processes of other users connect to --socket; the entries still decide who gets what")
	needed(c, "trust-domain", "authority", "credential", "bundle", "socket", "control")
	return c
}

// parse reads what is text on the command line.
func (f *agentFlags) parse() (err error) {
	if f.config.TrustDomain, err = parseTrustDomain(f.trustDomain); err != nil {
		return err
	}
	authority, err := parsePeer("--authority", f.authority)
	if err != nil {
		return err
	}
	f.config.Authority, f.config.AuthorityID = authority.Target, authority.ID
	federations, err := parseFederations(f.federate)
	if err != nil {
		return err
	}
	for _, other := range federations {
		if other.trustDomain == f.config.TrustDomain {
			return cli.Usagef("--federate: %s is the agent's own trust domain", other.trustDomain)
		}
		f.config.Federated = append(f.config.Federated,
			agentd.Federated{TrustDomain: other.trustDomain, File: other.file, URL: other.url, EndpointID: other.endpoint})
	}
	return nil
}

func (f *agentFlags) run(ctx context.Context) error {
	f.config.Log = slog.New(slog.NewJSONHandler(os.Stderr, nil))
	if f.join != "" {
		_, err := agentd.Join(ctx, agentd.JoinConfig{
			TrustDomain: f.config.TrustDomain, Ticket: f.join, Authority: f.config.Authority, AuthorityID: f.config.AuthorityID,
			Credential: f.config.Credential, Bundle: f.config.Bundle, Log: f.config.Log,
		})
		if err != nil {
			return err
		}
	}
	return agentd.Run(ctx, f.config)
}
