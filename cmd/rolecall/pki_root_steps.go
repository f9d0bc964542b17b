package main

import (
	"context"
	"fmt"
	"os/user"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"example.com/rolecall/internal/cli"
	"example.com/rolecall/internal/rootrotation"
	"example.com/rolecall/pki"
)

// stepFlags are those of activate, retire and status.
type stepFlags struct {
	caFlags
	rootFlags
	askFlags
	dry     bool
	without []string
	reason  string
}

func (a *app) rotateActivateCommand() *cobra.Command {
	var flags stepFlags
	c := &cobra.Command{
		Use:   "activate",
		Short: "Second step: an issuer of the new root signs",
		Long: `Lets an issuer of the new root sign from now on. Where the new root is at hand (root-next/ of 'rolecall up', or --new-root) the
issuer is made; elsewhere it is made as every other, before this step:

  rolecall pki issuer csr | sign --root NEW-ROOT | import

Chains carry the cross certificate from then on, so that a verifier that has not heard of the new root yet verifies them with
the old one. Without a cross certificate (the key of the old root is lost) the step waits until everybody has the new bundle,
and is refused before.`,
		Example: `  rolecall pki root rotate activate
  rolecall pki root rotate activate --ca /var/lib/authority`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return a.rotateActivate(c.Context(), &flags) },
	}
	c.Flags().BoolVar(&flags.dry, "dry-run", false, "show when what would happen, and change nothing")
	flags.addSkip(c)
	flags.rootFlags.add(c)
	flags.caFlags.add(c)
	flags.askFlags.add(c)
	return c
}

func (f *stepFlags) addSkip(c *cobra.Command) {
	c.Flags().StringArrayVar(&f.without, "without", nil, "SPIFFE ID of one who is missing and is not waited for; for the record, once for each")
	c.Flags().StringVar(&f.reason, "reason", "", "why, for --without")
	c.MarkFlagsRequiredTogether("without", "reason")
}

func (a *app) rotateActivate(ctx context.Context, flags *stepFlags) error {
	if err := flags.askFlags.check(); err != nil {
		return err
	}
	issuers, folder, err := flags.open()
	if err != nil {
		return err
	}
	if flags.dry {
		return a.dryRun(issuers)
	}
	if issuers.Rotation().Phase == pki.RotationPrepared && !issuers.HasCross() {
		found, err := a.examine(ctx, flags, issuers, rootrotation.ReadyToActivate)
		if err != nil {
			return err
		}
		if len(found.Obstacles) > 0 {
			return &rootrotation.UnsafeError{Step: "activate", Obstacles: found.Obstacles}
		}
	}
	next, err := a.nextRoot(ctx, flags, filepath.Dir(folder))
	if err != nil {
		return err
	}
	if err := rootrotation.Activate(issuers, next); err != nil {
		return err
	}
	a.out.Printf("%s the new root signs (SHA-256 %s)\nNext, once everybody has renewed: %s\n", a.out.Green("✓"),
		rootrotation.Short(issuers.Rotation().New), rotateWords(&flags.caFlags, "retire"))
	return nil
}

// nextRoot opens the new root where it is at hand; nil if it is not.
func (a *app) nextRoot(ctx context.Context, flags *stepFlags, meshDir string) (*pki.Root, error) {
	folder := flags.next
	if folder == "" {
		folder = filepath.Join(meshDir, pki.NextRootDir)
		if !exists(filepath.Join(folder, "root.key")) {
			return nil, nil
		}
	}
	return a.openRoot(ctx, folder, flags.nextPassphraseFile)
}

// examine asks the mesh, and asks again when somebody was left out.
func (a *app) examine(ctx context.Context, flags *stepFlags, issuers *pki.Issuers,
	ask func(context.Context, *pki.Issuers, *rootrotation.Mesh, time.Time) (*rootrotation.Examination, error),
) (*rootrotation.Examination, error) {
	m, err := flags.mesh(&flags.caFlags)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, flags.timeout)
	defer cancel()
	found, err := ask(ctx, issuers, m, time.Now())
	if err != nil || len(flags.without) == 0 {
		return found, err
	}
	if err := rootrotation.Skip(issuers, found, flags.without, flags.reason, author(m), time.Now()); err != nil {
		return nil, cli.Usagef("--without: %w", err)
	}
	for _, id := range flags.without {
		a.out.Printf("%s %s is left out, for the record: %s\n", a.out.Yellow("!"), id, cli.Clean(flags.reason))
	}
	return ask(ctx, issuers, m, time.Now())
}

// author is who leaves somebody out: the operator whose certificate is used, and the user of the machine.
func author(m *rootrotation.Mesh) string {
	by := "unknown"
	if svid, err := m.Source.GetX509SVID(); err == nil {
		by = svid.ID.String()
	}
	if u, err := user.Current(); err == nil {
		by += " (user " + cli.Clean(u.Username) + ")"
	}
	return by
}

func (a *app) rotateRetireCommand() *cobra.Command {
	var flags stepFlags
	c := &cobra.Command{
		Use:   "retire",
		Short: "Last step: the old root leaves the bundle",
		Long: `Takes the old root out of the bundle, if that is safe: every live identity was handed the present bundle by its agent, every
service says that it trusts the new root and talks to somebody who trusts nothing else, no certificate under the old root is
alive, and three refresh hints have passed since the new root signs. Otherwise it is refused and says who is missing; run it
again then. --without leaves one out, for the record.

Where 'rolecall up' runs mesh.json says whom to ask. Elsewhere name the authority, every service, and an operator's files; the
operator needs the roles authority.admin and rolecall.admin.`,
		Example: `  rolecall pki root rotate retire
  rolecall pki root rotate retire --without spiffe://mesh.local/service/legacy --reason "switched off on 3 May"
  rolecall pki root rotate retire --ca /var/lib/authority \
    --authority dns:///authority:7441,spiffe://mesh.local/service/authority --cert alice.crt --key alice.key --bundle bundle.pem \
    --service authority=dns:///authority:7441,spiffe://mesh.local/service/authority \
    --service ledger=dns:///ledger:7445,spiffe://mesh.local/service/ledger`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return a.rotateRetire(c.Context(), &flags) },
	}
	c.Flags().BoolVar(&flags.dry, "dry-run", false, "show when what would happen, and change nothing")
	flags.addSkip(c)
	flags.caFlags.add(c)
	flags.askFlags.add(c)
	return c
}

func (a *app) rotateRetire(ctx context.Context, flags *stepFlags) error {
	if err := flags.askFlags.check(); err != nil {
		return err
	}
	issuers, folder, err := flags.open()
	if err != nil {
		return err
	}
	if flags.dry {
		return a.dryRun(issuers)
	}
	if issuers.Rotation().Phase == pki.NoRotation {
		if moved, err := adopt(folder); err != nil || moved { // after a crash between the last two steps
			return err
		}
		return fmt.Errorf("no root is being replaced: it is done, or begins with '%s'", rotateWords(&flags.caFlags, "prepare"))
	}
	found, err := a.examine(ctx, flags, issuers, rootrotation.Examine)
	if err != nil {
		return err
	}
	if err := rootrotation.Retire(issuers, found); err != nil {
		return err
	}
	a.out.Printf("%s the old root has left the bundle: %d services answered to the new one alone, %d identities are alive under it\n",
		a.out.Green("✓"), found.Services, found.Live)
	if _, err := adopt(folder); err != nil {
		return fmt.Errorf("the old root is retired, and its folder could not be moved: %w", err)
	}
	a.out.Printf("Whoever has the bundle from a file needs the present one: %s\n", command(append([]string{"pki", "bundle"}, append(flags.flag(), "--out", "FILE")...)...))
	return nil
}

// adopt lets root-next/ take the place of root/ beside an authority's folder, where `rolecall up` has them there. moved tells
// whether it did.
func adopt(authority string) (moved bool, err error) {
	dir := filepath.Dir(authority)
	next := filepath.Join(dir, pki.NextRootDir)
	if filepath.Base(authority) != pki.AuthorityDir || !exists(next) {
		return false, nil
	}
	err = pki.AdoptNextRoot(dir)
	return err == nil && !exists(next), err
}
