package pki

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
)

const (
	pemEncryptedKey = "ENCRYPTED PRIVATE KEY"
	pemKey          = "PRIVATE KEY"
	pemCertificate  = "CERTIFICATE"
	pemRequest      = "CERTIFICATE REQUEST"
)

// KeyFileError is a key file that was refused: why, and where there is one, the command that repairs it.
type KeyFileError struct {
	Path   string
	Err    error
	Repair string
}

func (e *KeyFileError) Error() string {
	if e.Repair == "" {
		return fmt.Sprintf("key file %s: %v", e.Path, e.Err)
	}
	return fmt.Sprintf("key file %s: %v; repair it with: %s", e.Path, e.Err, e.Repair)
}

func (e *KeyFileError) Unwrap() error { return e.Err }

// ErrPassphrase is what errors.Is finds in the error of a key that its passphrase does not open.
var ErrPassphrase = errPassphrase

// encryptKey returns a private key as PEM, encrypted with the passphrase; `openssl pkey -in` reads it.
func encryptKey(key crypto.Signer, passphrase []byte) ([]byte, error) {
	if len(passphrase) == 0 {
		return nil, errors.New("the passphrase of a key must not be empty")
	}
	plain, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode private key: %w", err)
	}
	sealed, err := pbes2Seal(plain, passphrase)
	if err != nil {
		return nil, fmt.Errorf("encrypt private key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: pemEncryptedKey, Bytes: sealed}), nil
}

// decryptKey opens the one encrypted key in PEM data; certificates beside it are passed over. The path is for the error.
func decryptKey(path string, data, passphrase []byte) (*ecdsa.PrivateKey, error) {
	block, err := keyBlock(data)
	if err != nil {
		return nil, &KeyFileError{Path: path, Err: err}
	}
	sealed, err := checkKeyBlock(block)
	if errors.Is(err, errWeak) {
		return nil, &KeyFileError{Path: path, Err: err, Repair: repairCommand(path)}
	}
	if err != nil {
		return nil, &KeyFileError{Path: path, Err: err}
	}
	plain, err := sealed.open(passphrase)
	if err != nil {
		return nil, &KeyFileError{Path: path, Err: err}
	}
	parsed, err := x509.ParsePKCS8PrivateKey(plain)
	if err != nil { // one wrong passphrase in 256 leaves a padding that looks right
		return nil, &KeyFileError{Path: path, Err: errPassphrase}
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok {
		return nil, &KeyFileError{Path: path, Err: fmt.Errorf("holds a %T, an ECDSA key is needed", parsed)}
	}
	return key, nil
}

// keyBlock finds the only private key in PEM data.
func keyBlock(data []byte) (*pem.Block, error) {
	var found *pem.Block
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if !strings.HasSuffix(block.Type, pemKey) {
			continue
		}
		if found != nil {
			return nil, errors.New("holds more than one private key")
		}
		found = block
	}
	if found == nil {
		return nil, errors.New("holds no private key in PEM (or was truncated)")
	}
	return found, nil
}

// checkKeyBlock refuses keys that are not encrypted, or not as this package does it.
func checkKeyBlock(block *pem.Block) (*pbes2, error) {
	switch {
	case strings.Contains(block.Headers["Proc-Type"], "ENCRYPTED"):
		return nil, fmt.Errorf("%w: RFC 1423 (Proc-Type) encryption uses one round of MD5", errWeak)
	case block.Type != pemEncryptedKey:
		return nil, fmt.Errorf("%w: the key is not encrypted at all", errWeak)
	}
	return parsePBES2(block.Bytes)
}

// repairCommand rewrites a key with the encryption that this package accepts. openssl asks for the passphrases itself.
func repairCommand(path string) string {
	old, fresh := quote(path), quote(path+".new")
	return fmt.Sprintf("openssl pkcs8 -topk8 -in %s -v2 aes-256-cbc -v2prf hmacWithSHA256 -iter %d -out %s && chmod 600 %s && mv %s %s",
		old, minRounds, fresh, fresh, fresh, old)
}

// quote makes a path safe to paste into a shell.
func quote(path string) string {
	if path != "" && strings.Trim(path, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-+:@%") == "" {
		return path
	}
	return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
}

// trimPassphrase drops the line end that editors and echo leave in a file.
func trimPassphrase(data []byte) []byte {
	return bytes.TrimRight(data, "\r\n")
}
