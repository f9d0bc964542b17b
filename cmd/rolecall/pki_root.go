package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"example.com/rolecall/internal/catalog"
	"example.com/rolecall/internal/certfile"
	"example.com/rolecall/internal/cli"
	"example.com/rolecall/internal/mesh"
	"example.com/rolecall/internal/rootrotation"
	"example.com/rolecall/pki"
)

func (a *app) pkiRootCommand() *cobra.Command {
	c := &cobra.Command{
		Use:     "root",
		Short:   "Replace the root of the trust domain",
		Long:    `Replaces the root, before it ends or because its key is not to be trusted any more, without a dropped call.`,
		Example: `  rolecall pki root rotate --help`,
		Args:    subcommand,
		RunE:    func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	rotate := &cobra.Command{
		Use:   "rotate",
		Short: "Replace the root in three steps: prepare, activate, retire",
		Long: `Replaces the root in three steps. Each can be repeated until it is done, and --dry-run shows when what happens:

  prepare    the new root joins the bundle, and the old one signs a cross
             certificate over the new one's key
  activate   an issuer of the new root signs; chains carry the cross
             certificate, so that a verifier that has not heard of the new
             root yet still verifies them with the old one
  retire     the old root leaves the bundle: once every agent has said that it
             handed out the new bundle, every service has said that it trusts
             the new root, and has talked to somebody who trusts nothing else,
             and no certificate under the old root is alive. Otherwise it is
             refused, and says who is missing

Where 'rolecall up' runs, the root is at hand and everything else in mesh.json. Elsewhere the roots are on machines of
their own: prepare --out makes the file there that prepare --import takes where the authority is.`,
		Example: `  rolecall pki root rotate prepare --dry-run
  rolecall pki root rotate prepare && rolecall pki root rotate activate
  rolecall pki root rotate status
  rolecall pki root rotate retire`,
		Args: subcommand,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	rotate.AddCommand(a.rotatePrepareCommand(), a.rotateActivateCommand(), a.rotateRetireCommand(), a.rotateStatusCommand())
	c.AddCommand(rotate)
	return c
}

// openRoot opens a root with its passphrase.
func (a *app) openRoot(ctx context.Context, dir, passphraseFile string) (*pki.Root, error) {
	if !exists(filepath.Join(dir, "root.crt")) {
		return nil, fmt.Errorf("there is no root in %s: %w; name the folder that 'rolecall pki init' made", dir, fs.ErrNotExist)
	}
	passphrase, err := a.rootPassphrase(ctx, dir, passphraseFile)
	if err != nil {
		return nil, err
	}
	defer clear(passphrase)
	root, err := pki.OpenRoot(dir, passphrase)
	if errors.Is(err, pki.ErrPassphrase) {
		return nil, fmt.Errorf("%w; nothing was done", err)
	}
	return root, err
}

// askFlags say whom to ask, and as whom, where no mesh.json does.
type askFlags struct {
	authority, cert, key, bundle, operator string
	services                               []string
	timeout                                time.Duration
}

func (f *askFlags) add(c *cobra.Command) {
	flags := c.Flags()
	flags.StringVar(&f.authority, "authority", "", "TARGET,SPIFFE-ID of the authority, where no 'rolecall up' runs")
	flags.StringArrayVar(&f.services, "service", nil, "NAME=TARGET,SPIFFE-ID of a service to ask; once for each server, the authority too")
	flags.StringVar(&f.cert, "cert", "", "PEM file with the operator's certificate chain")
	flags.StringVar(&f.key, "key", "", "PEM file with the operator's key")
	flags.StringVar(&f.bundle, "bundle", "", "PEM file with the roots that the operator trusts")
	flags.StringVar(&f.operator, "operator", "alice", "operator of the mesh in --dir who asks")
	flags.DurationVar(&f.timeout, "timeout", 20*time.Second, "how long to wait for answers")
	c.MarkFlagsRequiredTogether("authority", "cert", "key", "bundle", "service")
	c.MarkFlagsMutuallyExclusive("authority", "operator")
	c.MarkFlagsMutuallyExclusive("authority", "dir")
}

func (f *askFlags) check() error {
	if f.timeout <= 0 {
		return cli.Usagef("--timeout %s: a time above 0 is needed", f.timeout)
	}
	return nil
}

// mesh returns how to reach what runs: by the flags, else by the mesh.json in the folder.
func (f *askFlags) mesh(ca *caFlags) (*rootrotation.Mesh, error) {
	if f.authority != "" {
		return f.named()
	}
	if ca.ca != "" {
		return nil, cli.Usagef("nobody can be asked: give --authority, --cert, --key, --bundle and --service, or --dir where 'rolecall up' runs")
	}
	d, err := mesh.Open(*ca.dir)
	if err != nil {
		return nil, err
	}
	file, err := mesh.Read(d)
	if err != nil {
		return nil, err
	}
	return fromFile(file, f.operator)
}

// named is the mesh that the flags describe.
func (f *askFlags) named() (*rootrotation.Mesh, error) {
	authority, err := parsePeer("--authority", f.authority)
	if err != nil {
		return nil, err
	}
	services, err := parsePeers(f.services)
	if err != nil {
		return nil, err
	}
	source, err := certfile.Open(f.cert, f.key, f.bundle)
	if err != nil {
		return nil, err
	}
	own, err := source.GetX509SVID()
	if err != nil {
		return nil, err
	}
	m := &rootrotation.Mesh{Source: source, Authority: rootrotation.Peer{Name: "authority", Target: authority.Target, ID: authority.ID},
		Bundles: map[spiffeid.ID]string{own.ID: f.bundle}}
	for name, s := range services {
		m.Services = append(m.Services, rootrotation.Peer{Name: name, Target: s.Target, ID: s.ID})
	}
	return m, nil
}

// fromFile is the mesh that `rolecall up` runs. All its operators, and its own supervisor, read one bundle file.
func fromFile(file *mesh.File, operator string) (*rootrotation.Mesh, error) {
	o, ok := file.Operator(operator)
	if !ok {
		return nil, cli.Usagef("--operator %s: mesh.json knows no such operator", operator)
	}
	source, err := certfile.Open(o.Cert, o.Key, file.Bundle)
	if err != nil {
		return nil, err
	}
	m := &rootrotation.Mesh{Source: source, Bundles: map[spiffeid.ID]string{}}
	for _, s := range file.Services {
		id, err := spiffeid.FromString(s.ID)
		if err != nil {
			return nil, fmt.Errorf("mesh.json names the service %s %q: %w", s.Name, s.ID, err)
		}
		p := rootrotation.Peer{Name: s.Name, Target: "passthrough:///" + s.Address, ID: id}
		m.Services = append(m.Services, p)
		if s.Name == "authority" {
			m.Authority = p
		}
	}
	for _, o := range file.Operators {
		id, err := spiffeid.FromString(o.ID)
		if err != nil {
			return nil, fmt.Errorf("mesh.json names the operator %s %q: %w", o.Name, o.ID, err)
		}
		m.Bundles[id] = file.Bundle
		m.Bundles[catalog.SupervisorID(id.TrustDomain())] = file.Bundle
	}
	return m, nil
}

// writeTimeline shows when what happens.
func (a *app) writeTimeline(events []rootrotation.Event, now time.Time) {
	table := cli.Table{Header: []string{"", "AT THE EARLIEST", "STEP", "WHAT HAPPENS"}}
	for _, e := range events {
		mark, when := " ", e.At.Local().Format(time.DateTime)
		switch {
		case e.Done:
			mark = a.out.Green("✓")
		case !e.At.After(now):
			when = "now"
		}
		table.Add(mark, when, e.Step, e.What)
	}
	table.Write(a.out)
}

// rotateWords is a command line of the rotation with the flag that names the authority.
func rotateWords(ca *caFlags, step string, more ...string) string {
	return command(append(append([]string{"pki", "root", "rotate", step}, ca.flag()...), more...)...)
}

// parsePeer reads TARGET,SPIFFE-ID.
func parsePeer(flag, value string) (rootrotation.Peer, error) {
	comma := strings.LastIndex(value, ",")
	if comma < 1 {
		return rootrotation.Peer{}, cli.Usagef("%s %q: the form is TARGET,SPIFFE-ID, dns:///authority:7441,spiffe://mesh.local/service/authority", flag, value)
	}
	id, err := spiffeid.FromString(value[comma+1:])
	if err != nil {
		return rootrotation.Peer{}, cli.Usagef("%s %q: %w", flag, value, err)
	}
	return rootrotation.Peer{Target: value[:comma], ID: id}, nil
}
