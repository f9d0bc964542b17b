package main

import (
	"fmt"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"example.com/rolecall/internal/cli"
	"example.com/rolecall/pki"
)

func (a *app) pkiCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "pki",
		Short: "Issue certificates by hand, and print the bundle",
		Long: `Works on the folder of a certificate authority, without asking a server. Whoever may read that folder may issue: the issuers'
keys are in it.`,
		Example: `  rolecall pki issue --id spiffe://mesh.local/operator/dave --cert dave.crt --key dave.key
  rolecall pki bundle --out bundle.pem`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(a.pkiIssueCommand(), a.pkiBundleCommand())
	return c
}

// issueFlags are what a command line says about a certificate.
type issueFlags struct {
	id, ca, cert, key string
	dir               *string
	leaf              pki.Leaf
}

func (a *app) pkiIssueCommand() *cobra.Command {
	var flags issueFlags
	c := &cobra.Command{
		Use:   "issue --id SPIFFE-ID --cert FILE --key FILE",
		Short: "Issue a certificate to files",
		Long: `Issues a certificate for a person's tools, or for a program that has no Workload API: the chain to --cert, the key to --key
with mode 0600 and not encrypted. A key that is there already is kept and gets a new certificate: that is how to renew.
Nothing renews these files by itself, so choose --ttl with care; it is cut to a sixth of the issuer's life.`,
		Example: `  rolecall pki issue --id spiffe://mesh.local/operator/dave --ttl 8h --cert dave.crt --key dave.key
  rolecall pki issue --id spiffe://mesh.local/service/legacy --dns legacy.internal --ip 10.0.0.7 \
    --ca /var/lib/authority --cert legacy.crt --key legacy.key`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return a.issue(&flags) },
	}
	f := c.Flags()
	f.StringVar(&flags.id, "id", "", "SPIFFE ID, of the authority's trust domain (needed)")
	f.StringArrayVar(&flags.leaf.DNSNames, "dns", nil, "DNS name for the certificate, once for each")
	f.IPSliceVar(&flags.leaf.IPAddresses, "ip", nil, "IP address for the certificate, once for each")
	f.DurationVar(&flags.leaf.Life, "ttl", pki.DefaultLeafLife, "life of the certificate, 15s at least")
	f.StringVar(&flags.cert, "cert", "", "file for the certificate chain (needed)")
	f.StringVar(&flags.key, "key", "", "file for the key (needed)")
	f.StringVar(&flags.ca, "ca", "", "folder of the authority, with bundle.pem, credential and issuers/ (default: that of the mesh in --dir)")
	flags.dir = dirFlag(c)
	needed(c, "id", "cert", "key")
	c.MarkFlagsMutuallyExclusive("ca", "dir")
	return c
}

func (a *app) issue(flags *issueFlags) error {
	var err error
	leaf := flags.leaf
	if leaf.ID, err = spiffeid.FromString(flags.id); err != nil {
		return cli.Usagef("--id %q: %w", flags.id, err)
	}
	if leaf.Life < pki.MinLeafLife {
		return cli.Usagef("--ttl %s: %s at least", leaf.Life, pki.MinLeafLife)
	}
	if sameFile(flags.cert, flags.key) {
		return cli.Usagef("--cert and --key both name %s: two files are needed", flags.cert)
	}
	folder, err := authorityDir(*flags.dir, flags.ca)
	if err != nil {
		return err
	}
	issuers, err := pki.OpenIssuers(folder, nil)
	if err != nil {
		return err
	}
	if td := issuers.TrustDomain(); leaf.ID.TrustDomain() != td || leaf.ID.Path() == "" {
		return cli.Usagef("--id %s: an ID of the authority's own trust domain is needed, such as spiffe://%s/operator/NAME", leaf.ID, td)
	}
	chain, err := issuers.IssueFiles(leaf, flags.cert, flags.key)
	if err != nil {
		return err
	}
	notAfter := chain[0].NotAfter
	left := time.Until(notAfter)
	a.out.Printf("%s %s until %s (%s): certificate %s, key %s\n", a.out.Green("✓"), leaf.ID,
		notAfter.Local().Format(time.DateTime), cli.Span(left), flags.cert, flags.key)
	if left < leaf.Life*9/10 {
		a.out.Printf("%s it ends sooner than --ttl %s: a certificate lives a sixth of its issuer's life at most, and no longer than the issuer\n",
			a.out.Yellow("!"), leaf.Life)
	}
	return nil
}

// sameFile tells whether two paths name one file, also one that is not there yet.
func sameFile(x, y string) bool {
	absX, errX := filepath.Abs(x)
	absY, errY := filepath.Abs(y)
	return errX == nil && errY == nil && absX == absY
}

func (a *app) pkiBundleCommand() *cobra.Command {
	var ca, out string
	c := &cobra.Command{
		Use:   "bundle",
		Short: "Print the roots that verifiers need",
		Long: `Prints the bundle of the trust domain as PEM: the roots, and nothing else. It is no secret, but whoever can change it on its
way to a verifier decides whom that trusts.`,
		Example: `  rolecall pki bundle
  rolecall pki bundle --ca /var/lib/authority --out bundle.pem`,
		Args: cobra.NoArgs,
	}
	f := c.Flags()
	f.StringVar(&ca, "ca", "", "folder of the authority (default: that of the mesh in --dir)")
	f.StringVar(&out, "out", "", "file to write, in one step (default: standard output)")
	dir := dirFlag(c)
	c.MarkFlagsMutuallyExclusive("ca", "dir")
	c.RunE = func(*cobra.Command, []string) error {
		folder, err := authorityDir(*dir, ca)
		if err != nil {
			return err
		}
		bundle, err := pki.ReadBundle(filepath.Join(folder, "bundle.pem"))
		if err != nil {
			return err
		}
		if out != "" {
			return pki.WriteBundle(out, bundle)
		}
		if _, err := a.out.Write(pki.EncodeBundle(bundle)); err != nil {
			return fmt.Errorf("write the bundle: %w", err)
		}
		return nil
	}
	return c
}
