package pki

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
)

// Parameters of an encrypted key. Written are exactly minRounds and saltSize; read is what is at least as dear to guess
// and not so dear that opening it stops the program. A salt of 8 bytes is what `openssl pkcs8 -topk8` of OpenSSL 3.0
// writes, and still enough that no two keys share a table.
const (
	minRounds   = 600_000 // OWASP Password Storage Cheat Sheet, PBKDF2-HMAC-SHA256
	maxRounds   = 10_000_000
	saltSize    = 16
	minSaltSize = 8
	maxSaltSize = 64
	keySize     = 32
)

// errPassphrase reports that the passphrase does not open the key, or that the key file was damaged: CBC has no seal, so
// the two cannot be told apart.
var errPassphrase = errors.New("wrong passphrase (or a damaged file)")

// errWeak marks encryption that openssl can read and this package will not: repairable with an openssl command.
var errWeak = errors.New("encryption not accepted")

var (
	oidPBES2      = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 13}
	oidPBKDF2     = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 12}
	oidHMACSHA256 = asn1.ObjectIdentifier{1, 2, 840, 113549, 2, 9}
	oidAES256CBC  = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 42}
	asn1Null      = asn1.RawValue{Tag: asn1.TagNull}
)

// encryptedPrivateKeyInfo and the parameters below it: RFC 5958 §3, RFC 8018 appendix A.
type encryptedPrivateKeyInfo struct {
	Algorithm pkix.AlgorithmIdentifier
	Data      []byte
}

type pbes2Params struct {
	KeyDerivation pkix.AlgorithmIdentifier
	Encryption    pkix.AlgorithmIdentifier
}

type pbkdf2Params struct {
	Salt      []byte
	Rounds    int64
	KeyLength int                      `asn1:"optional"`
	PRF       pkix.AlgorithmIdentifier `asn1:"optional"`
}

// pbes2Seal encrypts a PKCS#8 key: PBKDF2-HMAC-SHA256, 600,000 rounds, AES-256-CBC.
func pbes2Seal(plain, passphrase []byte) ([]byte, error) {
	salt, iv := make([]byte, saltSize), make([]byte, aes.BlockSize)
	_, _ = rand.Read(salt) // never fails (crypto/rand)
	_, _ = rand.Read(iv)
	block, err := deriveCipher(passphrase, salt, minRounds)
	if err != nil {
		return nil, err
	}
	padding := aes.BlockSize - len(plain)%aes.BlockSize
	data := append(bytes.Clone(plain), bytes.Repeat([]byte{byte(padding)}, padding)...)
	cipher.NewCBCEncrypter(block, iv).CryptBlocks(data, data)

	kdf, err := asn1.Marshal(pbkdf2Params{Salt: salt, Rounds: minRounds,
		PRF: pkix.AlgorithmIdentifier{Algorithm: oidHMACSHA256, Parameters: asn1Null}})
	if err != nil {
		return nil, err
	}
	ivDER, err := asn1.Marshal(iv)
	if err != nil {
		return nil, err
	}
	params, err := asn1.Marshal(pbes2Params{
		KeyDerivation: pkix.AlgorithmIdentifier{Algorithm: oidPBKDF2, Parameters: asn1.RawValue{FullBytes: kdf}},
		Encryption:    pkix.AlgorithmIdentifier{Algorithm: oidAES256CBC, Parameters: asn1.RawValue{FullBytes: ivDER}},
	})
	if err != nil {
		return nil, err
	}
	return asn1.Marshal(encryptedPrivateKeyInfo{
		Algorithm: pkix.AlgorithmIdentifier{Algorithm: oidPBES2, Parameters: asn1.RawValue{FullBytes: params}},
		Data:      data,
	})
}

// pbes2 is an encrypted key whose parameters were found acceptable.
type pbes2 struct {
	salt, iv, data []byte
	rounds         int
}

// parsePBES2 reads an EncryptedPrivateKeyInfo and refuses weak and absurd parameters before any of them is computed.
func parsePBES2(der []byte) (*pbes2, error) {
	var info encryptedPrivateKeyInfo
	var params pbes2Params
	var kdf pbkdf2Params
	p := &pbes2{}
	if err := unmarshal(der, &info); err != nil {
		return nil, fmt.Errorf("not an encrypted PKCS#8 key: %w", err)
	}
	if !info.Algorithm.Algorithm.Equal(oidPBES2) {
		return nil, fmt.Errorf("%w: scheme %v is not PBES2", errWeak, info.Algorithm.Algorithm)
	}
	if err := unmarshal(info.Algorithm.Parameters.FullBytes, &params); err != nil {
		return nil, fmt.Errorf("PBES2 parameters: %w", err)
	}
	if !params.KeyDerivation.Algorithm.Equal(oidPBKDF2) {
		return nil, fmt.Errorf("%w: key derivation %v is not PBKDF2", errWeak, params.KeyDerivation.Algorithm)
	}
	if !params.Encryption.Algorithm.Equal(oidAES256CBC) {
		return nil, fmt.Errorf("%w: cipher %v is not AES-256-CBC", errWeak, params.Encryption.Algorithm)
	}
	if err := unmarshal(params.KeyDerivation.Parameters.FullBytes, &kdf); err != nil {
		return nil, fmt.Errorf("PBKDF2 parameters: %w", err)
	}
	if err := unmarshal(params.Encryption.Parameters.FullBytes, &p.iv); err != nil || len(p.iv) != aes.BlockSize {
		return nil, errors.New("AES-256-CBC needs an initialization vector of 16 bytes")
	}
	switch {
	case !kdf.PRF.Algorithm.Equal(oidHMACSHA256): // absent means HMAC-SHA1 (RFC 8018 §A.2)
		return nil, fmt.Errorf("%w: PBKDF2 does not use HMAC-SHA256", errWeak)
	case kdf.Rounds < minRounds:
		return nil, fmt.Errorf("%w: %d PBKDF2 rounds, at least %d are needed", errWeak, kdf.Rounds, minRounds)
	case kdf.Rounds > maxRounds:
		return nil, fmt.Errorf("%w: %d PBKDF2 rounds, at most %d are tried", errWeak, kdf.Rounds, maxRounds)
	case len(kdf.Salt) < minSaltSize || len(kdf.Salt) > maxSaltSize:
		return nil, fmt.Errorf("%w: salt of %d bytes, %d to %d are accepted", errWeak, len(kdf.Salt), minSaltSize, maxSaltSize)
	case kdf.KeyLength != 0 && kdf.KeyLength != keySize:
		return nil, fmt.Errorf("PBKDF2 key length %d does not fit AES-256", kdf.KeyLength)
	case len(info.Data) == 0 || len(info.Data)%aes.BlockSize != 0:
		return nil, fmt.Errorf("encrypted data of %d bytes is not whole blocks: the file is truncated", len(info.Data))
	}
	p.salt, p.rounds, p.data = kdf.Salt, int(kdf.Rounds), info.Data
	return p, nil
}

// open decrypts the key. It takes a fifth of a second or more: that is its purpose.
func (p *pbes2) open(passphrase []byte) ([]byte, error) {
	block, err := deriveCipher(passphrase, p.salt, p.rounds)
	if err != nil {
		return nil, err
	}
	plain := make([]byte, len(p.data))
	cipher.NewCBCDecrypter(block, p.iv).CryptBlocks(plain, p.data)
	padding := int(plain[len(plain)-1])
	if padding < 1 || padding > aes.BlockSize ||
		!bytes.Equal(plain[len(plain)-padding:], bytes.Repeat([]byte{byte(padding)}, padding)) {
		return nil, errPassphrase
	}
	return plain[:len(plain)-padding], nil
}

func deriveCipher(passphrase, salt []byte, rounds int) (cipher.Block, error) {
	key, err := deriveKey(passphrase, salt, rounds)
	if err != nil {
		return nil, fmt.Errorf("derive key from passphrase: %w", err)
	}
	return aes.NewCipher(key)
}

func unmarshal(der []byte, value any) error {
	rest, err := asn1.Unmarshal(der, value)
	if err != nil {
		return err
	}
	if len(rest) > 0 {
		return fmt.Errorf("%d bytes after the end", len(rest))
	}
	return nil
}
