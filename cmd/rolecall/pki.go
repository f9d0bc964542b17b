package main

import (
	"encoding/pem"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"example.com/rolecall/internal/cli"
	"example.com/rolecall/internal/mesh"
	"example.com/rolecall/pki"
)

func (a *app) pkiCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "pki",
		Short: "Work on a certificate authority by hand: root, issuers, certificates, bundle",
		Long: `Works on the folders of a certificate authority, without asking a server. The root is made and used on a machine of its own,
which needs no network: files are carried to and fro. Whoever may read the authority's folder may issue certificates: the
issuers' keys are in it.`,
		Example: `  rolecall pki init --root root --trust-domain mesh.local            # where the root is to lie
  rolecall pki issuer csr --ca /var/lib/authority --trust-domain mesh.local --out issuer.csr
  rolecall pki issuer sign --root root --csr issuer.csr --out issuer.crt
  rolecall pki issuer import --ca /var/lib/authority --bundle root.crt issuer.crt
  rolecall pki issue --id spiffe://mesh.local/operator/dave --cert dave.crt --key dave.key`,
		Args: subcommand,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(a.pkiInitCommand(), a.pkiIssuerCommand(), a.pkiRootCommand(), a.pkiCSRCommand(), a.pkiIssueCommand(),
		a.pkiTicketCommand(), a.pkiBundleCommand())
	return c
}

// caFlags say which authority's folder a command works on.
type caFlags struct {
	ca, credential string
	dir            *string
}

func (f *caFlags) add(c *cobra.Command) {
	c.Flags().StringVar(&f.ca, "ca", "", "folder of the authority, with bundle.pem, credential and issuers/ (default: that of the mesh in --dir)")
	c.Flags().StringVar(&f.credential, "credential", "", "file that opens the issuers' keys, where it is not in the authority's folder")
	f.dir = dirFlag(c)
	c.MarkFlagsMutuallyExclusive("ca", "dir")
}

// folder returns the authority's folder.
func (f *caFlags) folder() (string, error) { return authorityDir(*f.dir, f.ca) }

// open opens the authority's folder.
func (f *caFlags) open() (issuers *pki.Issuers, folder string, err error) {
	if folder, err = f.folder(); err != nil {
		return nil, "", err
	}
	issuers, err = f.openAt(folder)
	return issuers, folder, err
}

// openAt opens an authority's folder with the credential that the flags name.
func (f *caFlags) openAt(folder string) (*pki.Issuers, error) {
	if f.credential != "" {
		return pki.OpenIssuers(folder, nil, pki.WithCredential(f.credential))
	}
	return pki.OpenIssuers(folder, nil)
}

// flag returns the flag that names the same authority again, for commands that are shown.
func (f *caFlags) flag() []string {
	var words []string
	if f.ca != "" {
		words = append(words, "--ca", f.ca)
	} else if *f.dir != defaultDir {
		words = append(words, "--dir", *f.dir)
	}
	if f.credential != "" {
		words = append(words, "--credential", f.credential)
	}
	return words
}

// rootBeside returns the folder of the root beside an authority's folder, as `rolecall up` has it, and whether its key is
// there.
func rootBeside(authority string) (dir string, ok bool) {
	dir = filepath.Join(filepath.Dir(authority), pki.RootDir)
	return dir, exists(filepath.Join(dir, "root.key"))
}

// parseTrustDomain reads --trust-domain.
func parseTrustDomain(name string) (spiffeid.TrustDomain, error) {
	td, err := spiffeid.TrustDomainFromString(name)
	if err != nil {
		return td, cli.Usagef("--trust-domain %q: %w", name, err)
	}
	return td, nil
}

// maxInput bounds a certificate or a request that is read, in bytes.
const maxInput = 64 << 10

// read returns a file, or standard input for "-".
func (a *app) read(path string) ([]byte, error) {
	in := a.input()
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	data, err := io.ReadAll(io.LimitReader(in, maxInput+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if len(data) > maxInput {
		return nil, fmt.Errorf("%s has more than %d bytes: it is neither a certificate nor a request", path, maxInput)
	}
	return data, nil
}

// readDER reads the one object of a PEM file, or DER as it is. A block of another type is refused by name.
func (a *app) readDER(path, want string) ([]byte, error) {
	data, err := a.read(path)
	if err != nil {
		return nil, err
	}
	block, rest := pem.Decode(data)
	switch {
	case block == nil:
		return data, nil
	case block.Type != want:
		return nil, fmt.Errorf("%s holds a %s and not a %s: see 'rolecall inspect %s'", path, cli.Clean(block.Type), want, cli.Quote(path))
	}
	if more, _ := pem.Decode(rest); more != nil {
		return nil, fmt.Errorf("%s holds more than one %s: one is needed; see 'rolecall inspect %s'", path, want, cli.Quote(path))
	}
	return block.Bytes, nil
}

// write writes what is no secret to a file in one step, or to standard output if none is named.
func (a *app) write(path string, data []byte) error {
	if path != "" && path != "-" {
		return mesh.WriteFile(path, data, 0o644)
	}
	if _, err := a.out.Write(data); err != nil {
		return fmt.Errorf("write standard output: %w", err)
	}
	return nil
}

// toFile tells whether write writes a file, so that standard output is free for words.
func toFile(path string) bool { return path != "" && path != "-" }

// command writes a rolecall command line for people to type.
func command(words ...string) string { return cli.Quote(append([]string{"rolecall"}, words...)...) }

// sameFile tells whether two paths name one file, also one that is not there yet.
func sameFile(x, y string) bool {
	absX, errX := filepath.Abs(x)
	absY, errY := filepath.Abs(y)
	return errX == nil && errY == nil && absX == absY
}
