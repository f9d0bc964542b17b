package main

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/spf13/cobra"
	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"

	"example.com/rolecall/internal/cli"
	"example.com/rolecall/pki"
)

// maxIssuerLife is the longest life of an issuer that a root signs.
const maxIssuerLife = 90 * 24 * time.Hour

func (a *app) pkiIssuerCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "issuer",
		Short: "Make, list, activate and revoke the issuers that sign certificates",
		Long: `An issuer signs the certificates of workloads. Its key is made where the authority runs and never leaves that machine: the
root, on a machine of its own, signs a request for it. The next one is PREPARED at half of the life of the one before, ACTIVE
from 5/6 of that, and RETIRED at its end. 'rolecall up' does all of this by itself while the root is at hand.`,
		Example: `  rolecall pki issuer list
  rolecall pki issuer csr --ca /var/lib/authority --out issuer.csr       # there
  rolecall pki issuer sign --root root --csr issuer.csr --out issuer.crt   # here
  rolecall pki issuer import --ca /var/lib/authority issuer.crt          # there`,
		Args: subcommand,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(a.issuerCSRCommand(), a.issuerSignCommand(), a.issuerImportCommand(), a.issuerListCommand(),
		a.issuerActivateCommand(), a.issuerRevokeCommand())
	return c
}

func (a *app) issuerCSRCommand() *cobra.Command {
	var ca caFlags
	var trustDomain, out string
	c := &cobra.Command{
		Use:   "csr",
		Short: "Make the request for the next issuer, for the root to sign",
		Long: `Makes a key for the next issuer in the authority's folder, encrypted with its credential, and writes the request that the root
signs. As long as no certificate was imported for it, the same key is asked for again.

With --trust-domain the folder is made if it is not there: that is how an authority begins whose root is elsewhere.`,
		Example: `  rolecall pki issuer csr --ca /var/lib/authority --trust-domain mesh.local --out issuer.csr
  rolecall pki issuer csr --ca /var/lib/authority --out issuer.csr`,
		Args: cobra.NoArgs,
	}
	c.Flags().StringVar(&trustDomain, "trust-domain", "", "name of the trust domain, for an authority's folder that is new")
	c.Flags().StringVar(&out, "out", "", "file for the request in PEM (default: standard output)")
	ca.add(c)
	c.RunE = func(*cobra.Command, []string) error {
		folder, err := ca.folder()
		if err != nil {
			return err
		}
		if trustDomain != "" {
			td, err := parseTrustDomain(trustDomain)
			if err != nil {
				return err
			}
			if err := pki.CreateAuthority(folder, td, nil); err != nil {
				return err
			}
		}
		issuers, err := ca.openAt(folder)
		if errors.Is(err, fs.ErrNotExist) && trustDomain == "" {
			return fmt.Errorf("%w; for a new authority give --trust-domain too", err)
		}
		if err != nil {
			return err
		}
		der, generation, err := issuers.RequestIssuer()
		if err != nil {
			return err
		}
		if err := a.write(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})); err != nil {
			return err
		}
		if toFile(out) {
			back := append([]string{"pki", "issuer", "import"}, ca.flag()...)
			if issuers.Bundle().Empty() {
				back = append(back, "--bundle", "root.crt")
			}
			a.out.Printf("%s request for issuer %d of %s: %s\nCarry it to the root, and its answer back:\n  $ %s\n  $ %s\n", a.out.Green("✓"),
				generation, issuers.TrustDomain(), out, a.out.Cyan(command("pki", "issuer", "sign", "--root", "DIR", "--csr", out, "--out", "issuer.crt")),
				a.out.Cyan(command(append(back, "issuer.crt")...)))
		}
		return nil
	}
	return c
}

func (a *app) issuerSignCommand() *cobra.Command {
	var root, csr, out, passphraseFile string
	var life time.Duration
	c := &cobra.Command{
		Use:   "sign --root DIR --csr FILE",
		Short: "Have the root sign the request for an issuer",
		Long: `Signs what 'rolecall pki issuer csr' made, on the machine of the root. Nothing but the key and the number comes from the
request: what an issuer may do, and for which trust domain, is the root's to say. Look at the request first, with
'rolecall inspect', and compare the SHA-256 of its key with that on the machine where it was made.`,
		Example: `  rolecall pki issuer sign --root root --csr issuer.csr --out issuer.crt
  rolecall pki issuer sign --root root --csr issuer.csr --ttl 720h --passphrase-file - --out issuer.crt`,
		Args: cobra.NoArgs,
	}
	f := c.Flags()
	f.StringVar(&root, "root", "", "folder of the root (needed)")
	f.StringVar(&csr, "csr", "", `file with the request, "-" for standard input (needed)`)
	f.StringVar(&out, "out", "", "file for the certificate in PEM (default: standard output)")
	f.DurationVar(&life, "ttl", pki.DefaultIssuerLife, "life of the issuer; certificates live a sixth of it at most")
	f.StringVar(&passphraseFile, "passphrase-file", "", passphraseUsage)
	needed(c, "root", "csr")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if life < minRootLife || life > maxIssuerLife {
			return cli.Usagef("--ttl %s: %s (six times the shortest life of a certificate) to 2160h (90 days: whoever steals an issuer's key has it for that long)", life, minRootLife)
		}
		if csr == "-" && passphraseFile == "-" {
			return cli.Usagef("--csr - and --passphrase-file -: only one of them can be standard input")
		}
		der, err := a.readDER(csr, "CERTIFICATE REQUEST")
		if err != nil {
			return err
		}
		signer, err := a.openRoot(c.Context(), root, passphraseFile)
		if err != nil {
			return err
		}
		cert, err := signer.SignIssuerCSR(der, life)
		if err != nil {
			return refusedRequest(csr, err)
		}
		if err := a.write(out, encodeChain([]*x509.Certificate{cert})); err != nil {
			return err
		}
		if toFile(out) {
			a.out.Printf("%s %s of %s until %s: %s\nCarry it to the authority:\n  $ %s\n", a.out.Green("✓"), cert.Subject.CommonName, signer.TrustDomain(),
				cert.NotAfter.Local().Format(time.DateTime), out, a.out.Cyan(command("pki", "issuer", "import", "--ca", "DIR", out)))
		}
		return nil
	}
	return c
}

func (a *app) issuerImportCommand() *cobra.Command {
	var ca caFlags
	var roots string
	c := &cobra.Command{
		Use:   "import FILE",
		Short: "Put an issuer in place that the root signed",
		Long: `Takes the certificate that the root signed, checks that it fits the key that was made here, the bundle and the profile of
an issuer, and puts it in place as the next issuer. It signs when its turn comes, or at once if no other can.

The first time the authority has no bundle yet: --bundle names a file with the root's certificate, carried from the
machine of the root. Whoever can change that file on its way decides whom the trust domain trusts: compare its SHA-256
('rolecall inspect') with the one there.`,
		Example: `  rolecall pki issuer import --ca /var/lib/authority --bundle root.crt issuer.crt
  rolecall pki issuer import --ca /var/lib/authority issuer.crt`,
		Args: cobra.ExactArgs(1),
	}
	c.Flags().StringVar(&roots, "bundle", "", "file with the root's certificate, for an authority that has no bundle yet")
	ca.add(c)
	c.RunE = func(_ *cobra.Command, args []string) error {
		folder, err := ca.folder()
		if err != nil {
			return err
		}
		der, err := a.readDER(args[0], "CERTIFICATE")
		if err != nil {
			return err
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return fmt.Errorf("%s is not a certificate (%w): bring the file that 'rolecall pki issuer sign --out' wrote", args[0], err)
		}
		if roots != "" {
			var bundle *x509bundle.Bundle
			if bundle, err = pki.ReadBundle(roots); err != nil {
				return err
			}
			if err := pki.CreateAuthority(folder, bundle.TrustDomain(), bundle); err != nil {
				return err
			}
		}
		issuers, err := ca.openAt(folder)
		if err != nil {
			return err
		}
		status, err := issuers.ImportIssuer(cert)
		if err != nil {
			return err
		}
		a.out.Printf("%s issuer %d is %s, until %s\n", a.out.Green("✓"), status.Generation, status.State, status.NotAfter.Local().Format(time.DateTime))
		switch {
		case status.State == pki.Active:
		case status.ActiveFrom.IsZero():
			a.out.Printf("It is of the new root, and signs once that is activated: %s\n", command(append([]string{"pki", "root", "rotate", "activate"}, ca.flag()...)...))
		default:
			a.out.Printf("It signs from %s on, or at once with: %s\n", status.ActiveFrom.Local().Format(time.DateTime),
				command(append([]string{"pki", "issuer", "activate", fmt.Sprint(status.Generation)}, ca.flag()...)...))
		}
		return nil
	}
	return c
}

func refusedRequest(path string, err error) error {
	return fmt.Errorf("the request %s is refused: %w; see 'rolecall inspect %s'", path, err, cli.Quote(path))
}

// encodeChain returns certificates as PEM.
func encodeChain(chain []*x509.Certificate) []byte {
	var out []byte
	for _, cert := range chain {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})...)
	}
	return out
}
