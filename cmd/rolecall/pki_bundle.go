package main

import (
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"example.com/rolecall/pki"
)

// bundleHint is how long readers of the bundle document are told to wait before they look again.
const bundleHint = 5 * time.Minute

func (a *app) pkiBundleCommand() *cobra.Command {
	var ca caFlags
	var out string
	c := &cobra.Command{
		Use:   "bundle",
		Short: "Print the roots that verifiers need",
		Long: `Prints the bundle of the trust domain: with --format pem the roots and nothing else; with --format spiffe the document of the
SPIFFE Trust Domain and Bundle standard (a JWK set), with the keys of JWT-SVIDs too, for another trust domain to federate
with. It is no secret, but whoever can change it on its way to a verifier decides whom that trusts.`,
		Example: `  rolecall pki bundle
  rolecall pki bundle --ca /var/lib/authority --out bundle.pem
  rolecall pki bundle --format spiffe --out mesh.local.json`,
		Args: cobra.NoArgs,
	}
	c.Flags().StringVar(&out, "out", "", "file to write, in one step (default: standard output)")
	kind := &format{value: "pem", allowed: []string{"pem", "spiffe"}}
	c.Flags().Var(kind, "format", "how to write it")
	ca.add(c)
	c.RunE = func(*cobra.Command, []string) error {
		if kind.value == "spiffe" {
			issuers, _, err := ca.open()
			if err != nil {
				return err
			}
			document, err := pki.EncodeBundleDocument(issuers.Bundle(), issuers.JWTBundle(), issuers.Sequence(), bundleHint)
			if err != nil {
				return err
			}
			return a.write(out, document)
		}
		folder, err := ca.folder()
		if err != nil {
			return err
		}
		bundle, err := pki.ReadBundle(filepath.Join(folder, "bundle.pem"))
		if err != nil {
			return err
		}
		return a.write(out, pki.EncodeBundle(bundle))
	}
	return c
}
