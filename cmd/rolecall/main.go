// Command rolecall brings up, runs and inspects a mesh of services that talk only over mutual TLS.
//
//	rolecall up            # a whole mesh on this machine
//	rolecall --help        # everything else
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"example.com/rolecall/internal/cli"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	a := &app{out: cli.New(os.Stdout)}
	os.Exit(cli.Exit(os.Stderr, a.run(ctx, os.Args[1:])))
}

// run runs one command line. Whatever is wrong before the command itself begins is a wrong command line.
func (a *app) run(ctx context.Context, args []string) error {
	began := false
	root := a.root()
	each(root, func(c *cobra.Command) {
		if body := c.RunE; body != nil {
			c.RunE = func(c *cobra.Command, args []string) error {
				began = true
				return body(c, args)
			}
		}
	})
	root.SetArgs(args)
	c, err := root.ExecuteContextC(ctx)
	if err != nil && !began {
		return cli.Usagef("%w; see '%s --help'", err, c.CommandPath())
	}
	return err
}

func each(c *cobra.Command, visit func(*cobra.Command)) {
	visit(c)
	for _, sub := range c.Commands() {
		each(sub, visit)
	}
}

// subcommand is for commands that have others below them, and take nothing else.
func subcommand(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	c.SuggestionsMinimumDistance = 2
	near := ""
	if names := c.SuggestionsFor(args[0]); len(names) > 0 {
		near = "; near it: " + strings.Join(names, ", ")
	}
	return fmt.Errorf("unknown command %q for %q%s", args[0], c.CommandPath(), near)
}

// app is what all commands share.
type app struct {
	out *cli.Output
	// in is standard input, and questions is where a terminal is asked; nil: those of the process.
	in        io.Reader
	questions io.Writer
}

// root puts the commands together. Errors are shown by main, in one place.
func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "rolecall",
		Short: "A mutual-TLS gRPC service mesh that enforces requires_role",
		Long: `rolecall runs a mesh of gRPC services that talk only over mutual TLS, with short-lived certificates of a private CA, and
lets a method be called only by workloads that hold the roles which its .proto file asks for.`,
		Example: `  rolecall up                      # a whole mesh on this machine
  rolecall demo                    # a tour of it, from another terminal
  rolecall status                  # how everything stands`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          subcommand,
		RunE:          func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	root.SetOut(a.out)
	root.SetIn(a.input())
	// Long texts are wrapped, and not by the terminal in the middle of a word.
	help := root.HelpFunc()
	root.SetHelpFunc(func(c *cobra.Command, args []string) {
		c.Long = cli.Paragraphs(c.Long, a.out.Width())
		help(c, args)
	})
	flags := fmt.Sprintf("FlagUsagesWrapped %d", a.out.Width())
	root.SetUsageTemplate(strings.NewReplacer(".LocalFlags.FlagUsages", ".LocalFlags."+flags, ".InheritedFlags.FlagUsages", ".InheritedFlags."+flags).Replace(root.UsageTemplate()))
	root.AddCommand(
		a.upCommand(), a.runCommand(), a.demoCommand(), a.statusCommand(),
		a.probeCommand(), a.inspectCommand(), a.rolesCommand(), a.pkiCommand(),
		a.loginCommand(), a.logoutCommand(), a.callCommand(),
		a.serveCommand(), a.agentCommand(), a.versionCommand(),
	)
	return root
}
