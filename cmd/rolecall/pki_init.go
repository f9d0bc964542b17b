package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"example.com/rolecall/internal/cli"
	"example.com/rolecall/pki"
)

// Lives of a root that can be meant.
const (
	minRootLife = 6 * pki.MinLeafLife
	maxRootLife = 30 * 365 * 24 * time.Hour
)

// madeRoot is a new root, for programs.
type madeRoot struct {
	TrustDomain string    `json:"trust_domain"`
	Certificate string    `json:"certificate"`
	Key         string    `json:"key"`
	SHA256      string    `json:"sha256"` // of the certificate in DER
	NotAfter    time.Time `json:"not_after"`
}

func (a *app) pkiInitCommand() *cobra.Command {
	var dir, trustDomain, passphraseFile string
	var o pki.RootOptions
	c := &cobra.Command{
		Use:   "init --root DIR --trust-domain NAME",
		Short: "Make the root of a trust domain",
		Long: `Makes the root in a new folder: root.crt, which everybody may see, and root.key, encrypted with a passphrase. Do it on the
machine where the root is to stay, best one without a network: it signs an issuer every few days or months and is not needed
in between. 'openssl pkey -in root.key' reads the key.

The passphrase is asked for twice at the terminal, or read from --passphrase-file. Without it nothing of the root can be
used, and nobody can restore it: keep it, and a copy of the folder, in places of their own.`,
		Example: `  rolecall pki init --root root --trust-domain mesh.local
  pass show mesh/root | rolecall pki init --root root --trust-domain mesh.local --passphrase-file -`,
		Args: cobra.NoArgs,
	}
	f := c.Flags()
	f.StringVar(&dir, "root", "", "folder of the root, which is made (needed)")
	f.StringVar(&trustDomain, "trust-domain", "", "name of the trust domain (needed)")
	f.BoolVar(&o.P384, "p384", false, "a key on P-384 instead of P-256: each check of a chain takes about five times as long")
	f.DurationVar(&o.Life, "life", pki.DefaultRootLife, "life of the root")
	f.StringVar(&passphraseFile, "passphrase-file", "", passphraseUsage)
	output := outputFlag(c, "text", "json")
	needed(c, "root", "trust-domain")
	c.RunE = func(c *cobra.Command, _ []string) error {
		var err error
		if o.TrustDomain, err = parseTrustDomain(trustDomain); err != nil {
			return err
		}
		if o.Life < minRootLife || o.Life > maxRootLife {
			return cli.Usagef("--life %s: %s to %s (30 years)", o.Life, minRootLife, maxRootLife)
		}
		if found, err := os.ReadDir(dir); err == nil && len(found) > 0 {
			return fmt.Errorf("%s is not empty, and a root is never overwritten: name a new folder with --root", dir)
		}
		passphrase, err := a.newPassphrase(c.Context(), dir, passphraseFile)
		if err != nil {
			return err
		}
		defer clear(passphrase)
		root, err := pki.CreateRoot(dir, passphrase, o)
		if err != nil {
			return err
		}
		digest := sha256.Sum256(root.Certificate().Raw)
		made := madeRoot{TrustDomain: o.TrustDomain.Name(), Certificate: filepath.Join(dir, "root.crt"), Key: filepath.Join(dir, "root.key"),
			SHA256: hex.EncodeToString(digest[:]), NotAfter: root.Certificate().NotAfter}
		if output.value == "json" {
			return a.out.JSON(made)
		}
		a.showNewRoot(dir, made)
		return nil
	}
	return c
}

// showNewRoot says what was made and how to go on from there.
func (a *app) showNewRoot(dir string, r madeRoot) {
	a.out.Printf("%s root of %s until %s: %s, and %s, which the passphrase opens\n  SHA-256 %s\n\n", a.out.Green("✓"), r.TrustDomain,
		r.NotAfter.Local().Format(time.DateOnly), r.Certificate, r.Key, r.SHA256)
	a.out.Printf("The first issuer: a key is made where the authority runs, and stays there.\n")
	for _, step := range [][2]string{
		{"there", command("pki", "issuer", "csr", "--ca", "DIR", "--trust-domain", r.TrustDomain, "--out", "issuer.csr")},
		{"here", command("pki", "issuer", "sign", "--root", dir, "--csr", "issuer.csr", "--out", "issuer.crt")},
		{"there, with root.crt", command("pki", "issuer", "import", "--ca", "DIR", "--bundle", "root.crt", "issuer.crt")},
	} {
		a.out.Printf("  %s\n    $ %s\n", a.out.Dim("# "+step[0]), a.out.Cyan(step[1]))
	}
}
