package main

import (
	"time"

	"github.com/spf13/cobra"
	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"example.com/rolecall/internal/cli"
	"example.com/rolecall/pki"
)

// issueFlags are what a command line says about a certificate.
type issueFlags struct {
	caFlags
	id, csr, cert, key string
	leaf               pki.Leaf
}

func (a *app) pkiIssueCommand() *cobra.Command {
	var flags issueFlags
	c := &cobra.Command{
		Use:   "issue {--id SPIFFE-ID --key FILE | --csr FILE} --cert FILE",
		Short: "Issue a certificate to files",
		Long: `Issues a certificate for a person's tools, or for a program that has no Workload API: the chain to --cert, the key to --key
with mode 0600 and not encrypted. A key that is there already is kept and gets a new certificate: that is how to renew.
Nothing renews these files by itself, so choose --ttl with care; it is cut to a sixth of the issuer's life.

With --csr the key stays with whoever made it: 'rolecall pki csr' makes a request, and so does any other tool that puts one
SPIFFE ID into the subject alternative name and nothing but names beside it. Look at it first with 'rolecall inspect': the
certificate is for the names in it.`,
		Example: `  rolecall pki issue --id spiffe://mesh.local/operator/dave --ttl 8h --cert dave.crt --key dave.key
  rolecall pki issue --id spiffe://mesh.local/service/legacy --dns legacy.internal --ip 10.0.0.7 \
    --ca /var/lib/authority --cert legacy.crt --key legacy.key
  rolecall pki issue --csr dave.csr --cert dave.crt`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return a.issue(&flags) },
	}
	f := c.Flags()
	f.StringVar(&flags.id, "id", "", "SPIFFE ID, of the authority's trust domain")
	f.StringVar(&flags.csr, "csr", "", `file with a request in PEM or DER, "-" for standard input: it says the ID and the names, and the key stays elsewhere`)
	f.StringArrayVar(&flags.leaf.DNSNames, "dns", nil, "DNS name for the certificate, once for each")
	f.IPSliceVar(&flags.leaf.IPAddresses, "ip", nil, "IP address for the certificate, once for each")
	f.DurationVar(&flags.leaf.Life, "ttl", pki.DefaultLeafLife, "life of the certificate, 15s at least")
	f.StringVar(&flags.cert, "cert", "", "file for the certificate chain (needed)")
	f.StringVar(&flags.key, "key", "", "file for the key")
	flags.add(c)
	needed(c, "cert")
	c.MarkFlagsOneRequired("id", "csr")
	c.MarkFlagsMutuallyExclusive("id", "csr")
	c.MarkFlagsMutuallyExclusive("csr", "key")
	c.MarkFlagsMutuallyExclusive("csr", "dns")
	c.MarkFlagsMutuallyExclusive("csr", "ip")
	return c
}

func (a *app) issue(flags *issueFlags) error {
	var err error
	leaf := flags.leaf
	if leaf.Life < pki.MinLeafLife {
		return cli.Usagef("--ttl %s: %s at least", leaf.Life, pki.MinLeafLife)
	}
	if flags.csr == "" {
		if leaf.ID, err = spiffeid.FromString(flags.id); err != nil {
			return cli.Usagef("--id %q: %w", flags.id, err)
		}
		if flags.key == "" {
			return cli.Usagef("--key FILE is needed with --id: that is where the key goes; or hand in a request with --csr")
		}
		if sameFile(flags.cert, flags.key) {
			return cli.Usagef("--cert and --key both name %s: two files are needed", flags.cert)
		}
	}
	issuers, _, err := flags.open()
	if err != nil {
		return err
	}
	if flags.csr != "" {
		return a.issueCSR(flags, issuers, leaf)
	}
	if td := issuers.TrustDomain(); leaf.ID.TrustDomain() != td || leaf.ID.Path() == "" {
		return cli.Usagef("--id %s: an ID of the authority's own trust domain is needed, such as spiffe://%s/operator/NAME", leaf.ID, td)
	}
	chain, err := issuers.IssueFiles(leaf, flags.cert, flags.key)
	if err != nil {
		return err
	}
	a.showIssued(leaf, chain[0].NotAfter, "certificate "+flags.cert+", key "+flags.key)
	return nil
}

// issueCSR issues over the key of a request.
func (a *app) issueCSR(flags *issueFlags, issuers *pki.Issuers, leaf pki.Leaf) error {
	der, err := a.readDER(flags.csr, "CERTIFICATE REQUEST")
	if err != nil {
		return err
	}
	request, err := pki.ReadCSR(der, issuers.TrustDomain())
	if err != nil {
		return refusedRequest(flags.csr, err)
	}
	leaf.ID, leaf.DNSNames, leaf.IPAddresses, leaf.PublicKey = request.ID, request.DNSNames, request.IPAddresses, request.PublicKey
	chain, err := issuers.Issue(leaf)
	if err != nil {
		return err
	}
	if err := a.write(flags.cert, encodeChain(chain)); err != nil {
		return err
	}
	if toFile(flags.cert) {
		a.showIssued(leaf, chain[0].NotAfter, "certificate "+flags.cert)
	}
	return nil
}

func (a *app) showIssued(leaf pki.Leaf, notAfter time.Time, files string) {
	left := time.Until(notAfter)
	a.out.Printf("%s %s until %s (%s): %s\n", a.out.Green("✓"), leaf.ID, notAfter.Local().Format(time.DateTime), cli.Span(left), files)
	if left < leaf.Life*9/10 {
		a.out.Printf("%s it ends sooner than --ttl %s: a certificate lives a sixth of its issuer's life at most, and no longer than the issuer\n",
			a.out.Yellow("!"), leaf.Life)
	}
}
