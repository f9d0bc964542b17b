package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"example.com/rolecall/internal/cli"
	"example.com/rolecall/pki"
)

// maxInspected bounds what is read from standard input, as pki bounds a file.
const maxInspected = 1 << 20

func (a *app) inspectCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "inspect FILE",
		Short: "Say what a certificate, CSR, key, chain, bundle, CRL, JWT-SVID or access token is, and what is wrong with it",
		Long: `Reads certificates, certificate requests, keys and lists of revoked issuers, in PEM or DER, bundle documents (JWK sets),
JWT-SVIDs and access tokens, whose signature nobody verifies here, and says what each of them is and what is wrong with it.
A file with several is judged as a whole too: whether it is a chain, a bundle, or a certificate with its key, and whether the
parts go together. Private parts are never shown. FILE may be "-" for standard input.

Ends with 1 if something is wrong.`,
		Example: `  rolecall inspect .rolecall/operators/alice.crt
  openssl s_client -connect localhost:7445 -showcerts </dev/null | rolecall inspect -`,
		Args: cobra.ExactArgs(1),
	}
	output := outputFlag(c, "text", "json")
	c.RunE = func(c *cobra.Command, args []string) error {
		inspection, err := inspect(args[0], c.InOrStdin(), time.Now())
		if err != nil {
			return err
		}
		if output.value == "json" {
			err = a.out.JSON(inspection)
		} else {
			err = a.writeInspection(inspection)
		}
		if err == nil && !inspection.OK() {
			err = cli.ErrReported
		}
		return err
	}
	return c
}

func inspect(path string, stdin io.Reader, now time.Time) (*pki.Inspection, error) {
	if path != "-" {
		if info, err := os.Stat(path); err == nil && info.IsDir() {
			return nil, cli.Usagef("%s is a folder: name one of its files", path)
		}
		return pki.InspectFile(path, now)
	}
	data, err := io.ReadAll(io.LimitReader(stdin, maxInspected+1))
	if err != nil {
		return nil, fmt.Errorf("read standard input: %w", err)
	}
	if len(data) > maxInspected {
		return nil, fmt.Errorf("standard input has more than %d bytes: it is no key, certificate or bundle", maxInspected)
	}
	inspection, err := pki.Inspect(data, now)
	if err != nil {
		return nil, fmt.Errorf("inspect standard input: %w", err)
	}
	return inspection, nil
}

// writeInspection writes it for people. Names in a certificate may be anybody's, so nothing in them reaches the terminal
// that it would act on.
func (a *app) writeInspection(i *pki.Inspection) error {
	var text bytes.Buffer
	if err := i.WriteText(&text); err != nil {
		return err
	}
	for line := range strings.Lines(text.String()) {
		a.out.Println(cli.Clean(strings.TrimSuffix(line, "\n")))
	}
	return nil
}
