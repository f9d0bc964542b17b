package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"example.com/rolecall/internal/cli"
	"example.com/rolecall/pki"
)

func TestAnIssuerIsMadeWithTheRootOnAnotherMachine(t *testing.T) {
	t.Parallel()
	o := newOffline(t)
	made := o.must("pki init --root @root --trust-domain mesh.local --passphrase-file @pass --life 48h -o json")
	var root madeRoot
	if err := json.Unmarshal([]byte(made), &root); err != nil || root.TrustDomain != "mesh.local" || len(root.SHA256) != 64 || time.Until(root.NotAfter) > 49*time.Hour {
		t.Errorf("pki init -o json: %s, %v", made, err)
	}
	request := o.must("pki issuer csr --ca @ca --trust-domain mesh.local")
	if again := o.must("pki issuer csr --ca @ca"); again != request {
		t.Error("a second request before the first was used is over another key")
	}
	// Over standard input and output, as over ssh; the passphrase cannot come that way then.
	code, signed, stderr := o.run(request, "pki issuer sign --root @root --csr - --passphrase-file @pass")
	if code != 0 {
		t.Fatalf("sign: %d, %s", code, stderr)
	}
	o.write("issuer.crt", signed, 0o644)
	if said := o.must("pki issuer import --ca @ca --bundle @root/root.crt @issuer.crt"); !strings.Contains(said, "issuer 1 is ACTIVE") {
		t.Errorf("import: %s", said)
	}
	o.must("pki issuer import --ca @ca @issuer.crt") // again is no error
	if listed := o.must("pki issuer list --ca @ca"); !strings.Contains(listed, "ACTIVE") || !strings.Contains(listed, "no root is at hand") || !strings.Contains(listed, "rolecall pki issuer csr --ca") {
		t.Errorf("list says not when somebody must act, and with which command:\n%s", listed)
	}
	var list listedIssuers
	if err := json.Unmarshal([]byte(o.must("pki issuer list --ca @ca -o json")), &list); err != nil || len(list.Issuers) != 1 || list.Act.Must || list.Act.By.IsZero() {
		t.Errorf("list -o json: %+v, %v", list, err)
	}

	// The next one, which signs when somebody says so.
	o.must("pki issuer csr --ca @ca --out @2.csr")
	o.must("pki issuer sign --root @root --csr @2.csr --out @2.crt --passphrase-file @pass")
	if said := o.must("pki issuer import --ca @ca @2.crt"); !strings.Contains(said, "PREPARED") || !strings.Contains(said, "pki issuer activate 2") {
		t.Errorf("import of the next: %s", said)
	}
	if said := o.must("pki issuer activate 2 --ca @ca"); !strings.Contains(said, "issuer 2 is ACTIVE") {
		t.Errorf("activate: %s", said)
	}
	if _, err := exec.LookPath("openssl"); err == nil && runtime.GOOS == "linux" {
		openssl(t, "verify", "-CAfile", o.path("root/root.crt"), o.path("2.crt"))
		openssl(t, "pkey", "-in", o.path("root/root.key"), "-passin", "file:"+o.path("pass"), "-noout")
		openssl(t, "req", "-in", o.path("2.csr"), "-noout", "-verify")
	}
}

func openssl(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), "openssl", args...).CombinedOutput(); err != nil {
		t.Errorf("openssl %v: %v\n%s", args, err, out)
	}
}

func TestARevokedIssuerIsDeniedWithTheSnippetThatIsShown(t *testing.T) {
	t.Parallel()
	o := newOffline(t)
	o.withIssuer()
	o.must("pki issue --id spiffe://mesh.local/operator/dave --cert @dave.crt --key @dave.key --ca @ca")
	said := o.must("pki issuer revoke 1 --ca @ca --reason taxi --root @root --crl @crl.pem --passphrase-file @pass")
	_, snippet, found := strings.Cut(said, "denied:\n")
	snippet, _, _ = strings.Cut(snippet, "\n\n")
	if !found || !strings.Contains(said, "rolecall status") || !strings.Contains(said, "no issuer can sign now") {
		t.Fatalf("revoke of the only issuer:\n%s", said)
	}
	o.write("roles.yaml", "trustDomain: mesh.local\nbindings: []\ndenied:\n"+snippet+"\n", 0o600)
	if checked := o.must("roles check --roles @roles.yaml"); !strings.Contains(checked, "no mistake") {
		t.Errorf("roles.yaml with the snippet:\n%s", checked)
	}
	bundle, err := pki.ReadBundle(o.path("root/root.crt"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"crl.pem", "ca/crl.pem"} {
		if list, err := pki.ReadCRL(o.path(file), bundle); err != nil || len(list.RevokedCertificateEntries) != 1 {
			t.Errorf("%s: %v", file, err)
		}
	}
	if code, listed, _ := o.run("", "pki issuer list --ca @ca"); code != cli.ExitFailed || !strings.Contains(listed, "REVOKED") || !strings.Contains(listed, "somebody must act now") {
		t.Errorf("list when nothing can sign: code %d\n%s", code, listed)
	}
	if _, listed, _ := o.run("", "pki issuer list --ca @ca"); !strings.Contains(listed, "operator/dave has not renewed since issuer 1 was revoked") {
		t.Errorf("dave is not named:\n%s", listed)
	}
	o.must("pki issuer csr --ca @ca --out @2.csr")
	o.must("pki issuer sign --root @root --csr @2.csr --out @2.crt --passphrase-file @pass")
	o.must("pki issuer import --ca @ca @2.crt")
	o.must("pki issue --id spiffe://mesh.local/operator/dave --cert @dave.crt --key @dave.key --ca @ca")
	if listed := o.must("pki issuer list --ca @ca"); strings.Contains(listed, "dave") {
		t.Errorf("dave has renewed and is named:\n%s", listed)
	}
	again := o.must("pki issuer revoke 1 --ca @ca --reason other")
	if !strings.Contains(again, "issuer 1 revoked: taxi") {
		t.Errorf("revoke again: the first reason is to stay:\n%s", again)
	}
}

func TestARequestIsSignedWithoutItsKey(t *testing.T) {
	t.Parallel()
	o := newOffline(t)
	o.withIssuer()
	o.must("pki csr --id spiffe://mesh.local/service/legacy --dns legacy.internal --ip 10.0.0.7 --key @legacy.key --out @legacy.csr")
	if info, err := os.Stat(o.path("legacy.key")); err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
		t.Errorf("the key: %v, %v", info, err)
	}
	said := o.must("pki issue --csr @legacy.csr --cert @legacy.crt --ca @ca --ttl 1h")
	if !strings.Contains(said, "spiffe://mesh.local/service/legacy until") {
		t.Errorf("issue: %s", said)
	}
	key, err := os.ReadFile(o.path("legacy.key"))
	if err != nil {
		t.Fatal(err)
	}
	chain, err := os.ReadFile(o.path("legacy.crt"))
	if err != nil {
		t.Fatal(err)
	}
	o.write("both.pem", string(chain)+string(key), 0o600)
	if inspected := o.must("inspect @both.pem"); !strings.Contains(inspected, "legacy.internal") {
		t.Errorf("certificate and key do not go together:\n%s", inspected)
	}
	// The key is used again.
	if one, two := o.must("inspect @legacy.csr"), ""; one != "" {
		o.must("pki csr --id spiffe://mesh.local/service/legacy --dns legacy.internal --ip 10.0.0.7 --key @legacy.key --out @again.csr")
		if two = o.must("inspect @again.csr"); one != two {
			t.Errorf("the second request is another:\n%s\n%s", one, two)
		}
	}
	after, err := os.ReadFile(o.path("legacy.key"))
	if err != nil || string(after) != string(key) {
		t.Errorf("the key was replaced: %v", err)
	}
}

func TestTheBundleIsPrintedInBothForms(t *testing.T) {
	t.Parallel()
	o := newOffline(t)
	o.withIssuer()
	o.must("pki bundle --ca @ca --out @bundle.pem")
	o.must("pki bundle --ca @ca --format spiffe --out @bundle.json")
	for _, file := range []string{"@bundle.pem", "@bundle.json"} {
		if inspected := o.must("inspect " + file); !strings.Contains(inspected, "nothing is wrong") {
			t.Errorf("inspect %s:\n%s", file, inspected)
		}
	}
}

func TestATicketIsPrivateAndTellsTheOtherMachinesCommand(t *testing.T) {
	t.Parallel()
	o := newOffline(t)
	o.withIssuer()
	said := o.must("pki ticket host2 --ca @ca --out @host2.ticket")
	if !strings.Contains(said, "rolecall agent --join") || !strings.Contains(said, "spiffe://mesh.local/agent/host2") {
		t.Errorf("ticket: %s", said)
	}
	if info, err := os.Stat(o.path("host2.ticket")); err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
		t.Errorf("the ticket's file: %v, %v", info, err)
	}
	ticket, bundle, err := pki.ReadTicket(o.path("host2.ticket"))
	if err != nil || ticket.ID.String() != "spiffe://mesh.local/join/host2" || bundle.Empty() {
		t.Fatalf("ticket %+v, %v", ticket, err)
	}
	if left := time.Until(ticket.Certificates[0].NotAfter); left < 9*time.Minute || left > 11*time.Minute {
		t.Errorf("the ticket is good for %s, want 10 minutes", left)
	}
}
