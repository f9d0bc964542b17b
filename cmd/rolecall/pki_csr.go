package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"runtime"

	"github.com/spf13/cobra"
	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"example.com/rolecall/internal/cli"
	"example.com/rolecall/internal/mesh"
	"example.com/rolecall/pki"
)

func (a *app) pkiCSRCommand() *cobra.Command {
	var id, key, out string
	var dns []string
	var ips []net.IP
	c := &cobra.Command{
		Use:   "csr --id SPIFFE-ID --key FILE",
		Short: "Make a request for a certificate, over a key that stays here",
		Long: `Makes a request for a certificate with one SPIFFE ID, for 'rolecall pki issue --csr' on the machine of the authority. The key
stays here: it is made if the file is not there, mode 0600 and not encrypted, and used again if it is.`,
		Example: `  rolecall pki csr --id spiffe://mesh.local/operator/dave --key dave.key --out dave.csr
  rolecall pki csr --id spiffe://mesh.local/service/legacy --dns legacy.internal --key legacy.key --out legacy.csr`,
		Args: cobra.NoArgs,
	}
	f := c.Flags()
	f.StringVar(&id, "id", "", "SPIFFE ID (needed)")
	f.StringVar(&key, "key", "", "file of the key (needed)")
	f.StringVar(&out, "out", "", "file for the request in PEM (default: standard output)")
	f.StringArrayVar(&dns, "dns", nil, "DNS name to ask for, once for each")
	f.IPSliceVar(&ips, "ip", nil, "IP address to ask for, once for each")
	needed(c, "id", "key")
	c.RunE = func(*cobra.Command, []string) error {
		parsed, err := spiffeid.FromString(id)
		if err != nil || parsed.Path() == "" {
			return cli.Usagef("--id %q: the SPIFFE ID of a workload or operator is needed, such as spiffe://mesh.local/operator/NAME", id)
		}
		if sameFile(key, out) && out != "" {
			return cli.Usagef("--key and --out both name %s: two files are needed", key)
		}
		signer, made, err := openOrMakeKey(key)
		if err != nil {
			return err
		}
		der, err := pki.NewCSR(signer, parsed, dns, ips)
		if err != nil {
			return err
		}
		// The same gate as at the authority: what it would refuse is better told before it is carried there.
		if _, err := pki.ReadCSR(der, parsed.TrustDomain()); err != nil {
			return cli.Usagef("the authority would refuse this request: %w", err)
		}
		if made != nil {
			if err := mesh.WriteFile(key, made, 0o600); err != nil {
				return err
			}
		}
		if err := a.write(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})); err != nil {
			return err
		}
		if toFile(out) {
			a.out.Printf("%s request for %s: %s, over the key %s; where the authority's folder is:\n  $ %s\n", a.out.Green("✓"), parsed, out, key,
				a.out.Cyan(command("pki", "issue", "--csr", out, "--cert", "FILE", "--ca", "DIR")))
		}
		return nil
	}
	return c
}

// openOrMakeKey reads a key in the clear, or makes one; made is what to write once the rest has gone well, nil if the file
// was there.
func openOrMakeKey(path string) (key crypto.Signer, made []byte, err error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		if key, err = pki.NewKey(); err != nil {
			return nil, nil, err
		}
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			return nil, nil, fmt.Errorf("encode the new key: %w", err)
		}
		return key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("key file: %w", err)
	}
	if mode := info.Mode().Perm(); runtime.GOOS != "windows" && mode&0o077 != 0 {
		return nil, nil, fmt.Errorf("key file %s has mode %04o, which lets others read it: chmod 600 %s", path, mode, cli.Quote(path))
	}
	if info.Size() > maxInput {
		return nil, nil, fmt.Errorf("key file %s has more than %d bytes: it is no key", path, maxInput)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, fmt.Errorf("key file: %w", err)
	}
	block, _ := pem.Decode(data)
	if block == nil || block.Type != "PRIVATE KEY" {
		return nil, nil, fmt.Errorf("key file %s is not one key in PEM, PKCS#8 and in the clear: see 'rolecall inspect %s'", path, cli.Quote(path))
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, nil, fmt.Errorf("key file %s: %w", path, err)
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok {
		return nil, nil, fmt.Errorf("key file %s holds a %T: an ECDSA key is needed", path, parsed)
	}
	return key, nil, nil
}
