//go:build unix

package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	ledgerv1 "example.com/rolecall/gen/ledger/v1"
)

// TestOfflineRootToARunningMesh goes the way of docs/pki.md, command by command: a root that is only ever used to sign one
// request, an authority that never sees it, an agent that joins by a ticket, a service, and a call.
func TestOfflineRootToARunningMesh(t *testing.T) {
	t.Parallel()
	h := newByHand(t, "shop.internal")
	h.create(t, "168h")

	rootCert, rootKey, issuer := filepath.Join(h.root, "root.crt"), filepath.Join(h.root, "root.key"), h.path("issuer.crt")
	openssl(t, "pkey", "-in", rootKey, "-passin", "file:"+h.passphrase, "-noout")
	openssl(t, "verify", "-x509_strict", "-CAfile", rootCert, issuer)
	openssl(t, "req", "-in", h.path("issuer.csr"), "-verify", "-noout")
	if text := openssl(t, "x509", "-in", issuer, "-noout", "-text"); !strings.Contains(text, "pathlen:0") || !strings.Contains(text, "Name Constraints: critical") {
		t.Errorf("the issuer is not limited to leaves of the trust domain:\n%s", text)
	}

	authority := h.startAuthority(t)
	agent := h.startAgent(t, "host1", h.ledgerEntry("127.0.0.1"))
	ledgerAddress := freeAddress(t)
	ledger := h.startLedger(t, agent, ledgerAddress)

	alice, bob := h.issue(t, "alice"), h.issue(t, "bob", "--ttl", "8h")
	openssl(t, "verify", "-x509_strict", "-CAfile", rootCert, "-untrusted", alice.Cert, "-purpose", "sslclient", alice.Cert)

	running := h.asMesh(ledgerAddress, alice, bob)
	admin := running.caller(t, "alice").patientLedger(t)
	from, to := openAccounts(t, admin, "")
	pay(t, admin, from, to, 1250)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	balance, err := running.caller(t, "bob").ledger(t).GetBalance(ctx, &ledgerv1.GetBalanceRequest{AccountId: to})
	if err != nil || balance.GetBalance().GetMinorUnits() != 1250 {
		t.Errorf("bob reads the balance %v, %v", balance, err)
	}

	t.Run("a request that was made elsewhere is signed, and nothing but its key and name gets in", func(t *testing.T) {
		key, csr, cert := h.path("dave.key"), h.path("dave.csr"), h.path("dave.crt")
		mustRun(t, "pki", "csr", "--id", h.id("/operator/dave"), "--key", key, "--out", csr)
		openssl(t, "req", "-in", csr, "-verify", "-noout")
		mustRun(t, "pki", "issue", "--ca", h.ca, "--csr", csr, "--cert", cert)
		openssl(t, "verify", "-x509_strict", "-CAfile", rootCert, "-untrusted", cert, cert)
		if leaf, private := openssl(t, "x509", "-in", cert, "-noout", "-pubkey"), openssl(t, "pkey", "-in", key, "-pubout"); leaf != private {
			t.Errorf("the certificate is over another key:\n%s%s", leaf, private)
		}
	})
	t.Run("inspect knows everything that was written", func(t *testing.T) {
		for _, path := range []string{rootCert, rootKey, h.path("issuer.csr"), issuer, alice.Cert, alice.Key, filepath.Join(h.ca, "bundle.pem"), filepath.Join(agent.dir, "agent.pem")} {
			if out, code := runRolecall(t, "inspect", path); strings.Contains(out, "PROBLEM") || code != 0 {
				t.Errorf("inspect %s: exit code %d\n%s", filepath.Base(path), code, out)
			}
		}
		document := h.path("bundle.json")
		mustRun(t, "pki", "bundle", "--ca", h.ca, "--format", "spiffe", "--out", document)
		if out := mustRun(t, "inspect", document); !strings.Contains(out, h.td) {
			t.Errorf("inspect of the bundle document does not name the trust domain:\n%s", out)
		}
	})
	t.Run("secrets are its user's alone", func(t *testing.T) {
		for _, dir := range []string{h.root, h.ca, agent.dir} {
			expectPrivate(t, dir)
		}
	})
	t.Run("the folder of the authority without the credential signs nothing", func(t *testing.T) {
		stolen := h.path("stolen")
		if out, err := exec.CommandContext(t.Context(), "cp", "-Rp", h.ca, stolen).CombinedOutput(); err != nil {
			t.Fatalf("cp: %v\n%s", err, out)
		}
		if err := os.Remove(filepath.Join(stolen, "credential")); err != nil {
			t.Fatal(err)
		}
		mustFail(t, []string{"credential"}, "pki", "issue", "--ca", stolen, "--id", h.id("/operator/eve"), "--cert", h.path("eve.crt"), "--key", h.path("eve.key"))
		if _, err := os.Stat(h.path("eve.crt")); err == nil {
			t.Error("a certificate was written")
		}
	})
	t.Run("no secret is in a log, an argument or an environment", func(t *testing.T) {
		secrets := []string{"PRIVATE KEY", strings.TrimSpace(readFile(t, h.passphrase)), strings.TrimSpace(readFile(t, filepath.Join(h.ca, "credential")))}
		for name, p := range map[string]*process{"authority": authority, "agent": agent.process, "ledger": ledger} {
			said := content(p.log) + strings.Join(p.cmd.Args, " ")
			if environment, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", p.cmd.Process.Pid)); err == nil { // where there is /proc
				said += string(environment)
			}
			for _, secret := range secrets {
				if strings.Contains(said, secret) {
					t.Errorf("the %s says a secret of %d bytes", name, len(secret))
				}
			}
		}
	})
}

// TestOfflineFlowRefusesWhatDoesNotFit gives each command of the offline flow what it must not take: it says why and what
// to do, and nothing has changed.
func TestOfflineFlowRefusesWhatDoesNotFit(t *testing.T) {
	t.Parallel()
	h, other := newByHand(t, "shop.internal"), newByHand(t, "other.internal")
	h.create(t, "168h")
	other.create(t, "168h")
	wrong := h.path("wrong")
	h.write(t, wrong, "not the passphrase\n")
	csr, cert := h.path("next.csr"), h.path("next.crt")
	mustRun(t, "pki", "issuer", "csr", "--ca", h.ca, "--out", csr)
	before := readFile(t, filepath.Join(h.ca, "bundle.pem"))

	sign := func(root, passphrase, csr string) []string {
		return []string{"pki", "issuer", "sign", "--root", root, "--passphrase-file", passphrase, "--csr", csr, "--out", cert}
	}
	leafCSR := h.path("leaf.csr")
	mustRun(t, "pki", "csr", "--id", h.id("/service/ledger"), "--key", h.path("leaf.key"), "--out", leafCSR)
	for _, test := range []struct {
		name string
		args []string
		says []string
	}{
		{"a second root in the same folder", []string{"pki", "init", "--root", h.root, "--trust-domain", h.td, "--passphrase-file", h.passphrase}, []string{"root"}},
		{"the wrong passphrase", sign(h.root, wrong, csr), []string{"passphrase"}},
		{"a request of another trust domain", sign(other.root, other.passphrase, csr), []string{h.td, other.td}},
		{"a request of a leaf", sign(h.root, h.passphrase, leafCSR), []string{"issuer"}},
		{"something that is no request", sign(h.root, h.passphrase, h.roles), []string{"roles.yaml"}},
		{"a certificate of another root", []string{"pki", "issuer", "import", "--ca", h.ca, other.path("issuer.crt")}, []string{}},
		{"a leaf in place of an issuer", []string{"pki", "issuer", "import", "--ca", h.ca, h.issue(t, "alice").Cert}, []string{}},
	} {
		t.Run(test.name, func(t *testing.T) {
			out := mustFail(t, test.says, test.args...)
			t.Log(strings.TrimSpace(out))
			if _, err := os.Stat(cert); err == nil {
				t.Error("a certificate was written")
			}
		})
	}
	if after := readFile(t, filepath.Join(h.ca, "bundle.pem")); after != before {
		t.Error("the bundle has changed")
	}
	// After all that the right way still works, and an import that is repeated changes nothing.
	mustRun(t, sign(h.root, h.passphrase, csr)...)
	mustRun(t, "pki", "issuer", "import", "--ca", h.ca, cert)
	state := readFile(t, filepath.Join(h.ca, "state.json"))
	mustRun(t, "pki", "issuer", "import", "--ca", h.ca, cert)
	if again := readFile(t, filepath.Join(h.ca, "state.json")); again != state {
		t.Errorf("the second import changed something:\n%s\n%s", state, again)
	}
}

// TestTicketIsGoodOnce redeems a join ticket and tries it again, on another machine.
func TestTicketIsGoodOnce(t *testing.T) {
	t.Parallel()
	h := newByHand(t, "shop.internal")
	h.create(t, "168h")
	h.startAuthority(t)
	first := h.startAgent(t, "host1", h.ledgerEntry("127.0.0.1"))
	await(t, "the agent has its certificate", func() error { _, err := os.Stat(filepath.Join(first.dir, "agent.pem")); return err })

	dir := h.path("thief")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	out, code := runRolecall(t, "agent", "--trust-domain", h.td, "--authority", "dns:///"+h.authority+","+h.id("/service/authority"),
		"--join", filepath.Join(first.dir, "ticket.pem"), "--credential", filepath.Join(dir, "agent.pem"), "--bundle", filepath.Join(dir, "bundle.pem"),
		"--socket", filepath.Join(dir, "agent.sock"), "--control", filepath.Join(dir, "control.sock"))
	if code != 1 || !strings.Contains(out, "pki ticket") {
		t.Errorf("a ticket used twice: exit code %d after %s, want 1 and the command that makes another:\n%s", code, time.Since(began).Round(time.Millisecond), out)
	}
	if _, err := os.Stat(filepath.Join(dir, "agent.pem")); err == nil {
		t.Error("the thief has a certificate")
	}
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// expectPrivate fails the test for each file with a private key, and each other secret, that others may read.
func expectPrivate(t *testing.T, dir string) {
	t.Helper()
	seen := 0
	err := filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // replaced while we looked
		}
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if secret := strings.Contains(string(data), "PRIVATE KEY"); !secret && entry.Name() != "credential" && filepath.Ext(path) != ".jsonl" {
			return nil
		}
		seen++
		info, err := entry.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil && info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %04o", path, info.Mode().Perm())
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	if seen == 0 {
		t.Errorf("%s holds no secret", dir)
	}
}
