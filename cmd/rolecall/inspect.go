package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"example.com/rolecall/internal/cli"
	"example.com/rolecall/internal/inspect"
	"example.com/rolecall/pki"
)

func (a *app) inspectCommand() *cobra.Command {
	var flags inspectFlags
	c := &cobra.Command{
		Use:   "inspect FILE",
		Short: "Say what a certificate, key, bundle, proof, receipt or token is, and what is wrong with it",
		Long: `Reads certificates, certificate requests, keys and lists of revoked issuers, in PEM or DER, bundle documents (JWK sets),
JWT-SVIDs, access tokens of users, proofs and receipts of signed requests, and in JSON signed requests and their answers, also
in what 'rolecall call' has printed, and what the service keys answers; and says what each of them is, what it claims, and what
is wrong with it. A file with several certificates is judged as a whole too: whether it is a chain, a bundle, or a certificate
with its key, and whether the parts go together. FILE may be "-" for standard input.

No server is asked, so what only a server can tell is named as NOT VERIFIED: whether a proof was used, or a token revoked. The
signature of a proof or a receipt is verified with --cert, the certificate chain of its signer, which the service keys tells,
and that one with --bundle; what it is about is compared with --body. Private parts and signatures are never shown.

Ends with 1 if something is wrong.`,
		Example: `  rolecall inspect .rolecall/operators/alice.crt
  openssl s_client -connect localhost:7445 -showcerts </dev/null | rolecall inspect -
  rolecall login | rolecall inspect -
  rolecall call ledger/Transfer --sign -d @transfer.json >signed.json
  rolecall inspect signed.json --cert .rolecall/operators/alice.crt --bundle .rolecall/bundle.pem
  rolecall call keys/GetKeys -d '{"spiffe_id": "spiffe://mesh.local/service/ledger"}' >keys.json
  rolecall inspect answer.json --cert keys.json --bundle .rolecall/bundle.pem`,
		Args: cobra.ExactArgs(1),
	}
	f := c.Flags()
	f.StringVar(&flags.cert, "cert", "", "certificate chain of who is said to have signed it: a PEM file, or what keys/GetKeys has answered")
	f.StringVar(&flags.bundle, "bundle", "", "PEM file with the roots that this chain is verified with")
	f.StringVar(&flags.body, "body", "", "exact bytes of the message that a proof or a receipt is about")
	output := outputFlag(c, "text", "json")
	c.RunE = func(c *cobra.Command, args []string) error {
		if flags.bundle != "" && flags.cert == "" {
			return cli.Usagef("--bundle verifies the certificate of the signer: name that one too, with --cert")
		}
		inspection, err := flags.inspect(args[0], c.InOrStdin(), time.Now())
		if err != nil {
			return err
		}
		if output.value == "json" {
			err = a.out.JSON(inspection)
		} else {
			err = inspection.WriteText(a.out)
		}
		if err == nil && !inspection.OK() {
			err = cli.ErrReported
		}
		return err
	}
	return c
}

// inspectFlags name what is at hand beside the file.
type inspectFlags struct{ cert, bundle, body string }

func (f *inspectFlags) inspect(path string, stdin io.Reader, now time.Time) (*pki.Inspection, error) {
	o := inspect.Options{Now: now}
	if err := f.read(&o); err != nil {
		return nil, err
	}
	if path != "-" {
		if info, err := os.Stat(path); err == nil && info.IsDir() {
			return nil, cli.Usagef("%s is a folder: name one of its files", path)
		}
		return inspect.File(path, o)
	}
	data, err := inspect.Read(stdin, "standard input")
	if err != nil {
		return nil, err
	}
	inspection, err := inspect.Data(data, o)
	if err != nil {
		return nil, fmt.Errorf("inspect standard input: %w", err)
	}
	return inspection, nil
}

// read reads what the flags name.
func (f *inspectFlags) read(o *inspect.Options) (err error) {
	if f.cert != "" {
		if o.Chains, err = inspect.ReadChains(f.cert); err != nil {
			return fmt.Errorf("--cert: %w", err)
		}
	}
	if f.bundle != "" {
		if o.Bundle, err = inspect.ReadFile(f.bundle); err != nil {
			return fmt.Errorf("--bundle: %w", err)
		}
	}
	if f.body != "" {
		if o.Body, err = inspect.ReadFile(f.body); err != nil {
			return fmt.Errorf("--body: %w", err)
		}
	}
	return nil
}
