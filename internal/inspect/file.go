package inspect

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"

	"example.com/rolecall/pki"
)

// maxFile bounds what is read, in bytes: a message that was signed takes 4 MiB at most.
const maxFile = 8 << 20

// maxSmall bounds a file that holds none of these, in bytes: that is for pki, which reads no more.
const maxSmall = 1 << 20

// File is Data for a file; it also looks at the mode of a file that holds a key.
func File(path string, o Options) (*pki.Inspection, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("inspect: %w", err)
	}
	data, err := ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("inspect: %w", err)
	}
	if i := signed(data, o); i != nil {
		return i, nil
	}
	if len(data) > maxSmall {
		return nil, orSigned(fmt.Errorf("inspect %s: with more than %d bytes it is taken for %w", path, maxSmall, pki.ErrUnknown))
	}
	if info.Mode().IsRegular() {
		i, err := pki.InspectFile(path, o.Now)
		return i, orSigned(err)
	}
	i, err := Data(data, o) // a pipe gives what it holds once
	if err != nil {
		return nil, fmt.Errorf("inspect %s: %w", path, err)
	}
	return i, nil
}

// ReadFile reads a file of at most 8 MiB.
func ReadFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return Read(f, path)
}

// Read reads at most 8 MiB; the name is for the error.
func Read(r io.Reader, name string) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if len(data) > maxFile {
		return nil, fmt.Errorf("%s has more than %d bytes: it is nothing that is inspected here", name, maxFile)
	}
	return data, nil
}

// ReadChains reads the certificates of a PEM file as one chain, and leaves anything else in it alone; or the chains that an
// answer of the key server holds.
func ReadChains(path string) ([][]*x509.Certificate, error) {
	rest, err := ReadFile(path)
	if err != nil {
		return nil, err
	}
	var chains [][]*x509.Certificate
	for _, key := range readKeys(rest) {
		chain, err := chainOf(key)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		chains = append(chains, chain)
	}
	if chains != nil {
		return chains, nil
	}
	var chain []*x509.Certificate
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%s: certificate %d: %w", path, len(chain)+1, err)
		}
		chain = append(chain, cert)
	}
	if len(chain) == 0 {
		return nil, errors.New(path + " holds no certificate, neither in PEM nor as rolecall call keys/GetKeys prints it")
	}
	return [][]*x509.Certificate{chain}, nil
}
