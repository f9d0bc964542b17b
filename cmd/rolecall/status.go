package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"example.com/rolecall/internal/cli"
	"example.com/rolecall/internal/mesh"
	"example.com/rolecall/internal/status"
)

func (a *app) statusCommand() *cobra.Command {
	var timeout time.Duration
	c := &cobra.Command{
		Use:   "status",
		Short: "Show how the mesh is, and whether somebody must act",
		Long: `Asks every process of the mesh how it is, over mutual TLS and at its admin address, and looks at certificates, issuers, the
policy in force, lost audit records and the modes of the files.

Ends with 1 if somebody must act, and says what to do: a process that does not serve, a certificate that was not renewed
in time, a roles.yaml that cannot be read, a clock that is off, a key that others may read.`,
		Example: `  rolecall status
  rolecall status -o json | jq '.problems'`,
		Args: cobra.NoArgs,
	}
	dir := dirFlag(c)
	output := outputFlag(c, "table", "json")
	c.Flags().DurationVar(&timeout, "timeout", 5*time.Second, "how long to wait for answers")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if timeout <= 0 {
			return cli.Usagef("--timeout %s: a time above 0 is needed", timeout)
		}
		d, err := mesh.Open(*dir)
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(c.Context(), timeout)
		defer cancel()
		report, err := status.Collect(ctx, d, time.Now())
		if err != nil {
			return err
		}
		if output.value == "json" {
			err = a.out.JSON(report)
		} else {
			report.Write(a.out)
		}
		if err == nil && !report.OK() {
			err = cli.ErrReported
		}
		return err
	}
	return c
}
