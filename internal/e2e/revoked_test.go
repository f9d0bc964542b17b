//go:build unix

package e2e_test

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	ledgerv1 "example.com/rolecall/gen/ledger/v1"
	"example.com/rolecall/internal/mesh"
)

// TestARevokedIssuerIsGoneForGood follows the runbook of a leaked issuer: it is revoked, every leaf is renewed at once, and
// once its key is denied nothing that it signed gets in anywhere.
func TestARevokedIssuerIsGoneForGood(t *testing.T) {
	t.Parallel()
	running := startMesh(t)
	alice := running.caller(t, "alice")
	_, account := openAccounts(t, alice.ledger(t), "")
	leaked := alice.shown(t, "ledger")

	// What somebody holds who has the issuer's key, or had bob's files: a certificate that is good for a day.
	bob := operator(t, running.file, "bob")
	loot := t.TempDir()
	cert, key := filepath.Join(loot, "bob.crt"), filepath.Join(loot, "bob.key")
	for to, from := range map[string]string{cert: bob.Cert, key: bob.Key} {
		if err := os.WriteFile(to, []byte(readFile(t, from)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	thief := running.callerWith(t, cert, key)
	balance := func(c *caller) error {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		_, err := c.ledger(t).GetBalance(ctx, &ledgerv1.GetBalanceRequest{AccountId: account})
		return err
	}
	if err := balance(thief); err != nil {
		t.Fatalf("the copy of bob's certificate, before: %v", err)
	}
	openConnection := thief.ledger(t) // one that stays
	read := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		_, err := openConnection.GetBalance(ctx, &ledgerv1.GetBalanceRequest{AccountId: account})
		return err
	}
	if err := read(); err != nil {
		t.Fatal(err)
	}

	crl := filepath.Join(loot, "crl.pem")
	out := mustRun(t, "pki", "issuer", "revoke", "1", "--reason", "the test says so", "--dir", running.dir, "--root", filepath.Join(running.dir, "root"),
		"--passphrase-file", filepath.Join(running.dir, "root", "passphrase"), "--crl", crl)
	t.Log(out)
	for _, service := range []string{"authority", "ledger", "users", "tokens", "keys", "orders"} {
		await(t, service+" has a certificate of another issuer", func() error {
			if shown := alice.shown(t, service); shown.Issuer.String() == leaked.Issuer.String() {
				return fmt.Errorf("it is still of %s", shown.Issuer)
			}
			return nil
		})
	}
	for _, path := range []string{bob.Cert, operator(t, running.file, "alice").Cert} {
		await(t, filepath.Base(path)+" is of another issuer", func() error {
			if of := certificatesIn(t, path)[0].Issuer.String(); of == leaked.Issuer.String() {
				return fmt.Errorf("it is still of %s", of)
			}
			return nil
		})
	}
	if err := balance(alice); err != nil {
		t.Errorf("alice, after the revocation: %v", err)
	}

	// The list is for others: openssl refuses the issuer by it.
	issuer := certificatesIn(t, cert)[1]
	issuerFile := filepath.Join(loot, "issuer.pem")
	if err := os.WriteFile(issuerFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: issuer.Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	verify, err := exec.CommandContext(t.Context(), "openssl", "verify", "-crl_check", "-CAfile", running.file.Bundle, "-CRLfile", crl, issuerFile).CombinedOutput()
	if err == nil || !strings.Contains(string(verify), "revoked") {
		t.Errorf("openssl with the revocation list says of the issuer: %v\n%s", err, verify)
	}

	// What the mesh itself goes by: the snippet that the command printed, in roles.yaml.
	sum := sha256.Sum256(issuer.RawSubjectPublicKeyInfo)
	if !strings.Contains(out, hex.EncodeToString(sum[:])) {
		t.Fatalf("the command did not print the key of the issuer, %x, to be denied:\n%s", sum, out)
	}
	denyKey(t, running, sum)
	want := verdict{Code: codes.Unauthenticated, Reason: "PEER_NOT_TRUSTED"}
	await(t, "the thief's open connection is refused", func() error {
		if err := read(); verdictOf(err) != want {
			return fmt.Errorf("%v, want %v", err, want)
		}
		return nil
	})
	if err := balance(thief); err == nil {
		t.Error("the thief gets in on a new connection")
	}
	if err := balance(running.caller(t, "bob")); err != nil {
		t.Errorf("bob himself: %v", err)
	}
}

// denyKey lists a key under denied in roles.yaml, as an editor saves it.
func denyKey(t *testing.T, running *runningMesh, sum [32]byte) {
	t.Helper()
	text := fmt.Sprintf("%s\ndenied:\n  - keySha256: %x\n    reason: leaked\n", readFile(t, running.file.Roles), sum)
	if err := mesh.WriteFile(running.file.Roles, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// certificatesIn returns the certificates of a PEM file.
func certificatesIn(t *testing.T, path string) []*x509.Certificate {
	t.Helper()
	var found []*x509.Certificate
	for rest := []byte(readFile(t, path)); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		found = append(found, cert)
	}
	if len(found) == 0 {
		t.Fatalf("%s holds no certificate", path)
	}
	return found
}
