package main

import (
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"example.com/rolecall/internal/demo"
	"example.com/rolecall/internal/up"
)

func (a *app) demoCommand() *cobra.Command {
	config := demo.Config{Out: a.out}
	c := &cobra.Command{
		Use:   "demo",
		Short: "Tour the running mesh: what is the worst that Eve can do?",
		Long: `Makes real calls to the services of a running mesh, as the sample operators, on behalf of sample users, and as Eve, who has no
business there. Shows each as a command to try by hand, with its answer and the reason, and exits 1 if one went otherwise than it
should. At a terminal it stays a second at each attempt and takes about 90 seconds; elsewhere it takes a third of that, most of it
spent on waiting for things to expire.

It leaves accounts, transfers and orders behind, and ends all sessions of the user dave, whose refresh token is stolen. While a
role is taken away roles.yaml is edited; what stood there is given back, byte for byte. For the last scene, in which Eve has broken
into orders, this process joins the mesh as orders for a moment.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			// A terminal that is closed must not leave roles.yaml edited either.
			ctx, stop := signal.NotifyContext(c.Context(), syscall.SIGHUP)
			defer stop()
			return demo.Run(ctx, config)
		},
	}
	c.Flags().StringVar(&config.Dir, "dir", up.DefaultDir, "folder of the mesh")
	return c
}
