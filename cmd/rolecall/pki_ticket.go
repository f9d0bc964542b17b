package main

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"example.com/rolecall/internal/catalog"
	"example.com/rolecall/internal/cli"
	"example.com/rolecall/internal/mesh"
	"example.com/rolecall/pki"
)

// ticketLife is how long a ticket is good: for as long as carrying a file to another machine takes.
const ticketLife = 10 * time.Minute

func (a *app) pkiTicketCommand() *cobra.Command {
	var ca caFlags
	var out string
	c := &cobra.Command{
		Use:   "ticket NAME --out FILE",
		Short: "Make the ticket with which the agent of another machine joins",
		Long: `Makes a file of mode 0600 for the agent of another machine: a certificate of spiffe://TRUST-DOMAIN/join/NAME for 10 minutes, its
key, and the roots. There 'rolecall agent --join FILE' trades it for the first certificate of spiffe://TRUST-DOMAIN/agent/NAME, over a
key that never leaves that machine. A ticket is good once. Carry it as you would a password, over ssh for one.

Which identities that agent may ask for, its registration at the authority says.`,
		Example: `  rolecall pki ticket host2 --ca /var/lib/authority --out host2.ticket
  scp host2.ticket host2: && rm host2.ticket`,
		Args: cobra.ExactArgs(1),
	}
	c.Flags().StringVar(&out, "out", "", "file for the ticket, which must not be there (needed)")
	ca.add(c)
	needed(c, "out")
	c.RunE = func(_ *cobra.Command, args []string) error {
		if err := spiffeid.ValidatePathSegment(args[0]); err != nil {
			return cli.Usagef("name %q: %w; one segment of a path is needed, such as the name of the machine", args[0], err)
		}
		if _, err := os.Lstat(out); err == nil {
			return fmt.Errorf("%s is there already: name a new file with --out", out)
		}
		issuers, _, err := ca.open()
		if err != nil {
			return err
		}
		td := issuers.TrustDomain()
		id, err := spiffeid.FromSegments(td, "join", args[0])
		if err != nil {
			return cli.Usagef("name %q: %w", args[0], err)
		}
		key, err := pki.NewKey()
		if err != nil {
			return err
		}
		chain, err := issuers.Issue(pki.Leaf{ID: id, PublicKey: key.Public(), Life: ticketLife})
		if err != nil {
			return err
		}
		if err := pki.WriteTicket(out, chain, key, issuers.Bundle()); err != nil {
			return err
		}
		a.out.Printf("%s ticket for spiffe://%s/agent/%s until %s: %s\nOn that machine, before then:\n  $ %s\n", a.out.Green("✓"), td, args[0],
			chain[0].NotAfter.Local().Format(time.DateTime), out, a.out.Cyan(joinCommand(ca, td, args[0], out)))
		return nil
	}
	return c
}

// joinCommand is the command line for the other machine, with the authority's address where a mesh runs that tells it.
func joinCommand(ca caFlags, td spiffeid.TrustDomain, name, ticket string) string {
	authority := "dns:///AUTHORITY:7441," + catalog.ID(td, "authority").String()
	if ca.ca == "" {
		if d, err := mesh.Open(*ca.dir); err == nil {
			if file, err := mesh.Read(d); err == nil {
				if s, ok := file.Service("authority"); ok {
					authority = "dns:///" + s.Address + "," + s.ID
				}
			}
		}
	}
	return command("agent", "--join", filepath.Base(ticket), "--trust-domain", td.Name(), "--authority", authority,
		"--credential", "agent.pem", "--bundle", "bundle.pem", "--entries", "entries.yaml", "--socket", "agent.sock", "--control", "control.sock")
}
