package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"example.com/rolecall/internal/cli"
	"example.com/rolecall/internal/probe"
)

func (a *app) probeCommand() *cobra.Command {
	var config probe.Config
	var timeout time.Duration
	c := &cobra.Command{
		Use:   "probe ADDR",
		Short: "Ask one server for its health, over mutual TLS",
		Long: `Asks the gRPC health service at HOST:PORT. Ends with 0 if it answers SERVING, and with 1 if it answers anything else or
nothing at all before --timeout.

The server must prove to be --id, or spiffe://OWN-TRUST-DOMAIN/service/NAME with --service NAME. Without either it must have
the prober's own ID, as in an exec probe that an orchestrator runs beside the server. The prober's own certificate comes from
the Workload API at SPIFFE_ENDPOINT_SOCKET, or from --cert, --key and --bundle; it needs no role.`,
		Example: `  rolecall probe 127.0.0.1:7445
  rolecall probe localhost:7445 --service ledger --cert .rolecall/operators/carol.crt \
    --key .rolecall/operators/carol.key --bundle .rolecall/bundle.pem
  rolecall probe ledger:7445 --id spiffe://mesh.local/ns/prod/sa/ledger --timeout 2s`,
		Args: cobra.ExactArgs(1),
	}
	f := c.Flags()
	f.StringVar(&config.ID, "id", "", "SPIFFE ID that the server must prove to have")
	f.StringVar(&config.Service, "service", "", "the server's ID is /service/NAME of the prober's trust domain")
	f.StringVar(&config.Cert, "cert", "", "PEM file with the prober's certificate chain")
	f.StringVar(&config.Key, "key", "", "PEM file with the prober's key")
	f.StringVar(&config.Bundle, "bundle", "", "PEM file with the roots that the prober trusts")
	f.DurationVar(&timeout, "timeout", 5*time.Second, "how long to wait for all of it")
	output := outputFlag(c, "text", "json")
	c.RunE = func(c *cobra.Command, args []string) error {
		if timeout <= 0 {
			return cli.Usagef("--timeout %s: a time above 0 is needed", timeout)
		}
		config.Target = args[0]
		ctx, cancel := context.WithTimeout(c.Context(), timeout)
		defer cancel()
		answer, err := probe.Run(ctx, config)
		if err != nil {
			return err
		}
		if output.value == "json" {
			err = a.out.JSON(answer)
		} else {
			a.out.Printf("%s %s (%.1f ms)\n", answer.SPIFFEID, answer.Status, answer.Milliseconds)
		}
		if err == nil && !answer.Serving() {
			err = cli.ErrReported
		}
		return err
	}
	return c
}
