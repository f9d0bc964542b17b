package main

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"example.com/rolecall/internal/cli"
	"example.com/rolecall/internal/rootrotation"
	"example.com/rolecall/pki"
)

// rootFlags name the two roots and what opens them.
type rootFlags struct {
	old, next, passphraseFile, nextPassphraseFile string
}

func (f *rootFlags) add(c *cobra.Command) {
	flags := c.Flags()
	flags.StringVar(&f.next, "new-root", "", "folder of the new root, that 'rolecall pki init' made (default: root-next/ of the mesh in --dir, which is made)")
	flags.StringVar(&f.nextPassphraseFile, "new-passphrase-file", "", `file with the new root's passphrase, "-" for standard input (default: ask)`)
}

func (f *rootFlags) check() error {
	if f.passphraseFile == "-" && f.nextPassphraseFile == "-" {
		return cli.Usagef("--passphrase-file - and --new-passphrase-file -: only one of them can be standard input")
	}
	return nil
}

// prepareFlags are those of prepare.
type prepareFlags struct {
	caFlags
	rootFlags
	out, in   string
	lost, dry bool
}

func (a *app) rotatePrepareCommand() *cobra.Command {
	var flags prepareFlags
	c := &cobra.Command{
		Use:   "prepare",
		Short: "First step: the new root joins the bundle",
		Long: `Puts the new root into the bundle, beside the old one, and keeps the cross certificate that the old root signs over the new
root's key. Nothing is signed with the new root yet. Agents hand the bundle out within a minute.

With --out no authority is needed: the file is made where the roots are, and --import takes it where the authority is.
Compare the SHA-256 that both show. If the key of the old root is lost, --root-lost does without a cross certificate;
activate then waits until everybody has the new bundle.`,
		Example: `  rolecall pki root rotate prepare
  rolecall pki init --root new-root --trust-domain mesh.local                                     # where the roots are
  rolecall pki root rotate prepare --root root --new-root new-root --out new-root.pem             # there
  rolecall pki root rotate prepare --ca /var/lib/authority --import new-root.pem                  # where the authority is`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return a.rotatePrepare(c.Context(), &flags) },
	}
	f := c.Flags()
	f.StringVar(&flags.old, "root", "", "folder of the root that signs now (default: root/ of the mesh in --dir)")
	f.StringVar(&flags.passphraseFile, "passphrase-file", "", passphraseUsage)
	f.StringVar(&flags.out, "out", "", "make the file for --import, and touch no authority")
	f.StringVar(&flags.in, "import", "", "file that --out made where the roots are")
	f.BoolVar(&flags.lost, "root-lost", false, "the key of the old root is lost: no cross certificate")
	f.BoolVar(&flags.dry, "dry-run", false, "show when what would happen, and change nothing")
	flags.rootFlags.add(c)
	flags.caFlags.add(c)
	c.MarkFlagsMutuallyExclusive("out", "import")
	c.MarkFlagsMutuallyExclusive("out", "ca")
	c.MarkFlagsMutuallyExclusive("out", "dir")
	c.MarkFlagsMutuallyExclusive("out", "dry-run")
	for _, name := range []string{"root", "new-root", "root-lost", "passphrase-file", "new-passphrase-file"} {
		c.MarkFlagsMutuallyExclusive("import", name)
	}
	c.MarkFlagsMutuallyExclusive("root-lost", "root")
	return c
}

func (a *app) rotatePrepare(ctx context.Context, flags *prepareFlags) error {
	if err := flags.check(); err != nil {
		return err
	}
	if flags.out != "" {
		return a.propose(ctx, flags)
	}
	issuers, folder, err := flags.open()
	if err != nil {
		return err
	}
	if flags.dry {
		return a.dryRun(issuers)
	}
	if flags.in == "" && flags.ca != "" && (flags.next == "" || flags.old == "" && !flags.lost) {
		return cli.Usagef("with --ca, name both roots with --root and --new-root, or bring the file that prepare --out made with --import")
	}
	var proposal rootrotation.Proposal
	if flags.in != "" {
		var data []byte
		if data, err = a.read(flags.in); err != nil {
			return err
		}
		if proposal, err = rootrotation.ParseProposal(data); err != nil {
			return fmt.Errorf("%s: %w", flags.in, err)
		}
	} else if proposal, err = a.proposal(ctx, flags, filepath.Dir(folder), issuers); err != nil {
		return err
	}
	if err := rootrotation.Prepare(issuers, proposal); err != nil {
		return err
	}
	a.showPrepared(issuers, &flags.caFlags, proposal)
	return nil
}

// propose makes the file that is carried to the authority.
func (a *app) propose(ctx context.Context, flags *prepareFlags) error {
	if flags.next == "" || flags.old == "" && !flags.lost {
		return cli.Usagef("with --out, name both roots with --root and --new-root; if the key of the old one is lost, say --root-lost")
	}
	proposal, err := a.proposal(ctx, flags, "", nil)
	if err != nil {
		return err
	}
	if err := a.write(flags.out, proposal.Encode()); err != nil {
		return err
	}
	if toFile(flags.out) {
		a.out.Printf("%s %s, to be carried to the authority:\n  $ %s\n  the new root's SHA-256, which is shown there too: %s\n", a.out.Green("✓"), flags.out,
			a.out.Cyan(command("pki", "root", "rotate", "prepare", "--ca", "DIR", "--import", flags.out)), fingerprint(proposal.New))
	}
	return nil
}

// proposal opens or makes the roots and has the old one sign. meshDir is the folder of `rolecall up`, where roots that are
// not named lie.
func (a *app) proposal(ctx context.Context, flags *prepareFlags, meshDir string, issuers *pki.Issuers) (rootrotation.Proposal, error) {
	var old, next *pki.Root
	var err error
	if !flags.lost {
		folder := flags.old
		if folder == "" {
			folder = filepath.Join(meshDir, pki.RootDir)
		}
		if old, err = a.openRoot(ctx, folder, flags.passphraseFile); err != nil {
			return rootrotation.Proposal{}, err
		}
	}
	if flags.next == "" {
		next, err = pki.CreateNextRoot(meshDir, nil, pki.RootOptions{TrustDomain: issuers.TrustDomain()})
	} else {
		next, err = a.openRoot(ctx, flags.next, flags.nextPassphraseFile)
	}
	if err != nil {
		return rootrotation.Proposal{}, err
	}
	return rootrotation.Propose(old, next)
}

func (a *app) showPrepared(issuers *pki.Issuers, ca *caFlags, p rootrotation.Proposal) {
	now := issuers.Rotation()
	if now.Phase == pki.RotationActivated {
		a.out.Printf("%s the new root signs already; next: %s\n", a.out.Green("✓"), rotateWords(ca, "retire"))
		return
	}
	cross := "with a cross certificate of the old one"
	if p.Cross == nil {
		cross = "without a cross certificate"
	}
	a.out.Printf("%s the new root of %s is in the bundle, %s\n  SHA-256 %s\n", a.out.Green("✓"), issuers.TrustDomain(), cross, fingerprint(p.New))
	a.out.Printf("Give the new bundle to whoever has it from a file: %s\n", command(append([]string{"pki", "bundle"}, append(ca.flag(), "--out", "FILE")...)...))
	a.out.Printf("Next: %s\n", rotateWords(ca, "activate"))
}

// dryRun shows the timeline.
func (a *app) dryRun(issuers *pki.Issuers) error {
	now := time.Now()
	events, err := rootrotation.Timeline(issuers, now)
	if err != nil {
		return err
	}
	a.writeTimeline(events, now)
	a.out.Printf("\nNothing was changed.\n")
	return nil
}

func fingerprint(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.Raw)
	return hex.EncodeToString(sum[:])
}
