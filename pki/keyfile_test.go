package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

var testDomain = spiffeid.RequireTrustDomainFromString("mesh.local")

// sealedOnce spares the tests from deriving a key again and again, which takes long on purpose.
var sealedOnce = sync.OnceValues(func() ([]byte, error) {
	return pbes2Seal([]byte("sixteen bytes..."), []byte("passphrase"))
})

// resealed returns the PEM of an encrypted key after change has had its turn at the PBKDF2 parameters.
func resealed(t *testing.T, change func(*encryptedPrivateKeyInfo, *pbes2Params, *pbkdf2Params)) []byte {
	t.Helper()
	sealed, err := sealedOnce()
	if err != nil {
		t.Fatal(err)
	}
	var info encryptedPrivateKeyInfo
	var params pbes2Params
	var kdf pbkdf2Params
	must(t, unmarshal(sealed, &info))
	must(t, unmarshal(info.Algorithm.Parameters.FullBytes, &params))
	must(t, unmarshal(params.KeyDerivation.Parameters.FullBytes, &kdf))
	change(&info, &params, &kdf)
	params.KeyDerivation.Parameters = asn1.RawValue{FullBytes: marshal(t, kdf)}
	info.Algorithm.Parameters = asn1.RawValue{FullBytes: marshal(t, params)}
	return pem.EncodeToMemory(&pem.Block{Type: pemEncryptedKey, Bytes: marshal(t, info)})
}

func TestAttacksOnAKeyFile(t *testing.T) {
	t.Parallel()
	type info = encryptedPrivateKeyInfo
	plainEC := func(t *testing.T) []byte {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		must(t, err)
		data, err := encodeKey(key)
		must(t, err)
		return data
	}
	for _, c := range []struct {
		attack string
		data   func(t *testing.T) []byte
		want   string
		repair bool
	}{
		{"wrong passphrase", func(t *testing.T) []byte { return sealedKey(t, "another") }, "wrong passphrase", false},
		{"2,048 rounds", func(t *testing.T) []byte {
			return resealed(t, func(_ *info, _ *pbes2Params, k *pbkdf2Params) { k.Rounds = 2048 })
		}, "2048 PBKDF2 rounds, at least 600000", true},
		{"a billion rounds", func(t *testing.T) []byte {
			return resealed(t, func(_ *info, _ *pbes2Params, k *pbkdf2Params) { k.Rounds = 1_000_000_000 })
		}, "at most 10000000", true},
		{"negative rounds", func(t *testing.T) []byte {
			return resealed(t, func(_ *info, _ *pbes2Params, k *pbkdf2Params) { k.Rounds = -1 })
		}, "at least 600000", true},
		{"a salt of 4 bytes", func(t *testing.T) []byte {
			return resealed(t, func(_ *info, _ *pbes2Params, k *pbkdf2Params) { k.Salt = k.Salt[:4] })
		}, "salt of 4 bytes", true},
		{"HMAC-SHA1, which an absent PRF means", func(t *testing.T) []byte {
			return resealed(t, func(_ *info, _ *pbes2Params, k *pbkdf2Params) {
				k.PRF.Algorithm = nil
				k.PRF.Parameters = asn1.RawValue{}
			})
		}, "HMAC-SHA256", true},
		{"AES-128", func(t *testing.T) []byte {
			return resealed(t, func(_ *info, p *pbes2Params, _ *pbkdf2Params) {
				p.Encryption.Algorithm = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 2}
			})
		}, "not AES-256-CBC", true},
		{"scrypt instead of PBKDF2", func(t *testing.T) []byte {
			return resealed(t, func(_ *info, p *pbes2Params, _ *pbkdf2Params) {
				p.KeyDerivation.Algorithm = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 11591, 4, 11}
			})
		}, "not PBKDF2", true},
		{"PBES1", func(t *testing.T) []byte {
			return resealed(t, func(i *info, _ *pbes2Params, _ *pbkdf2Params) {
				i.Algorithm.Algorithm = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 3}
			})
		}, "not PBES2", true},
		{"data that is not whole blocks", func(t *testing.T) []byte {
			return resealed(t, func(i *info, _ *pbes2Params, _ *pbkdf2Params) { i.Data = i.Data[:17] })
		}, "truncated", false},
		{"a truncated key of whole blocks", func(t *testing.T) []byte {
			return resealed(t, func(i *info, _ *pbes2Params, _ *pbkdf2Params) { i.Data = i.Data[:16] })
		}, "or a damaged file", false},
		{"an RFC 1423 header", func(*testing.T) []byte {
			return pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: make([]byte, 64),
				Headers: map[string]string{"Proc-Type": "4,ENCRYPTED", "DEK-Info": "AES-256-CBC,00"}})
		}, "RFC 1423", true},
		{"a key in the clear", plainEC, "not encrypted at all", true},
		{"a truncated file", func(t *testing.T) []byte { return sealedKey(t, "passphrase")[:150] }, "truncated", false},
		{"two keys", func(t *testing.T) []byte { return append(plainEC(t), plainEC(t)...) }, "more than one", false},
		{"an RSA key", func(t *testing.T) []byte {
			key, err := rsa.GenerateKey(rand.Reader, 2048)
			must(t, err)
			der, err := x509.MarshalPKCS8PrivateKey(key)
			must(t, err)
			sealed, err := pbes2Seal(der, []byte("passphrase"))
			must(t, err)
			return pem.EncodeToMemory(&pem.Block{Type: pemEncryptedKey, Bytes: sealed})
		}, "an ECDSA key is needed", false},
		{"no key at all", func(*testing.T) []byte { return []byte("hello") }, "no private key", false},
	} {
		t.Run(c.attack, func(t *testing.T) {
			t.Parallel()
			_, err := decryptKey("/ca/root's.key", c.data(t), []byte("passphrase"))
			var refused *KeyFileError
			if !errors.As(err, &refused) || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v, want a KeyFileError with %q", err, c.want)
			}
			if c.repair != strings.Contains(err.Error(), `openssl pkcs8 -topk8 -in '/ca/root'\''s.key'`) {
				t.Errorf("repair command shown: %v, want %v: %v", !c.repair, c.repair, err)
			}
		})
	}
}

func sealedKey(t *testing.T, passphrase string) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	data, err := encryptKey(key, []byte(passphrase))
	must(t, err)
	return data
}

func TestTheCommandOfTheErrorRepairsTheKey(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("openssl"); err != nil || runtime.GOOS == "windows" {
		if os.Getenv("CI") == "true" {
			t.Fatal("openssl and a shell are needed, which CI must have")
		}
		t.Skip("openssl and a shell are needed")
	}
	for _, c := range []struct {
		name string
		weak []string // openssl arguments that write the weak form of the key in the clear $IN to $OUT
	}{
		{"2,048 rounds", []string{"pkcs8", "-topk8", "-v2", "aes-256-cbc", "-iter", "2048"}},
		{"RFC 1423", []string{"ec", "-aes256"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "root")
			root, err := CreateRoot(dir, []byte("passphrase"), RootOptions{TrustDomain: testDomain})
			must(t, err)
			plain, path := filepath.Join(dir, "plain"), filepath.Join(dir, rootKeyFile)
			data, err := encodeKey(root.key)
			must(t, err)
			must(t, os.WriteFile(plain, data, 0o600))
			run(t, append(c.weak, "-in", plain, "-out", path, "-passout", "pass:passphrase")...)
			must(t, os.Chmod(path, 0o600))
			_, err = OpenRoot(dir, []byte("passphrase"))
			var refused *KeyFileError
			if !errors.As(err, &refused) || refused.Repair == "" {
				t.Fatalf("OpenRoot of the weak key: %v, want a KeyFileError with a repair", err)
			}
			// The command asks for passphrases on the terminal; a test has none.
			command := strings.Replace(refused.Repair, "-topk8", "-topk8 -passin pass:passphrase -passout pass:passphrase", 1)
			if out, err := exec.Command("sh", "-c", command).CombinedOutput(); err != nil {
				t.Fatalf("%s: %v\n%s", command, err, out)
			}
			if _, err := OpenRoot(dir, []byte("passphrase")); err != nil {
				t.Errorf("after the repair: %v", err)
			}
		})
	}
}

func TestSecretsThatOthersMayReadAreRefused(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("modes mean nothing on Windows")
	}
	root := filepath.Join(t.TempDir(), "root")
	_, err := createRoot(root, []byte("passphrase"), RootOptions{TrustDomain: testDomain}, map[string][]byte{passphraseFile: []byte("passphrase\n")})
	must(t, err)
	authority := authorityAt(t, time.Now())
	credential := filepath.Join(authority, "leaf.pem")
	must(t, os.WriteFile(credential, nil, 0o600))
	for _, c := range []struct {
		path string
		open func() error
	}{
		{filepath.Join(root, rootKeyFile), func() error { _, err := OpenRoot(root, []byte("passphrase")); return err }},
		{filepath.Join(root, passphraseFile), func() error { _, err := ReadPassphrase(root); return err }},
		{filepath.Join(authority, credentialFile), func() error { _, err := OpenIssuers(authority, nil); return err }},
		{filepath.Join(authority, issuersDir, "0001.pem"), func() error { _, err := OpenIssuers(authority, nil); return err }},
		{credential, func() error { _, err := ReadCredential(credential); return err }},
	} {
		for _, mode := range []os.FileMode{0o644, 0o640, 0o604, 0o620} {
			must(t, os.Chmod(c.path, mode))
			if err := c.open(); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("has mode %04o", mode)) || !strings.Contains(err.Error(), "chmod 600 ") {
				t.Errorf("%s with mode %04o: %v, want a refusal that names the mode and the chmod", filepath.Base(c.path), mode, err)
			}
		}
		must(t, os.Chmod(c.path, 0o600))
	}
}

func FuzzDecryptKey(f *testing.F) {
	f.Add([]byte("-----BEGIN ENCRYPTED PRIVATE KEY-----\nMAA=\n-----END ENCRYPTED PRIVATE KEY-----\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		block, err := keyBlock(data)
		if err != nil {
			return
		}
		if sealed, err := checkKeyBlock(block); err == nil && (sealed.rounds < minRounds || sealed.rounds > maxRounds) {
			t.Errorf("%d rounds accepted", sealed.rounds)
		}
	})
}

func run(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command("openssl", args...).CombinedOutput(); err != nil {
		t.Fatalf("openssl %q: %v\n%s", args, err, out)
	}
}

func marshal(t *testing.T, value any) []byte {
	t.Helper()
	der, err := asn1.Marshal(value)
	must(t, err)
	return der
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
